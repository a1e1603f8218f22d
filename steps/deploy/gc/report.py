"""What a plan says, for people as tables and for programs as JSON; reads and writes nothing."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from steps.deploy.gc.plan import Item, Plan

_UNITS = ("B", "kB", "MB", "GB", "TB")


def as_json(plan: Plan, keep_days: int, *, done: bool) -> str:
    """Every item of a plan, and what is freed.

    Args:
        plan: The plan.
        keep_days: The days that it keeps.
        done: Whether it was carried out.

    Returns:
        The JSON object `{keep_days, deleted, bytes, delete, keep}`; `delete` and `keep` are lists of
        `{kind, path, count, bytes, why}`.
    """
    content = {
        "keep_days": keep_days,
        "deleted": done,
        "bytes": _bytes(plan.delete),
        "delete": [_facts(item) for item in plan.delete],
        "keep": [_facts(item) for item in plan.keep],
    }
    return json.dumps(content, indent=1)


def as_text(plan: Plan, *, done: bool) -> str:
    """A row for each kind and reason: first what is kept, then what is deleted; the last line says what that frees."""
    lines = [*_table("kept", plan.keep), ""] if plan.keep else []
    if not plan.delete:
        return "\n".join([*lines, "everything on the volumes is needed: there is nothing to delete"])
    freed = f"{_count(plan.delete)} items, {amount(_bytes(plan.delete))}"
    last = f"deleted {freed}" if done else f"make gc YES=1 deletes {freed}"
    return "\n".join([*lines, *_table("deleted" if done else "not needed", plan.delete), "", last])


def amount(count: int) -> str:
    """Bytes in words, such as 1.5 MB."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def _table(title: str, items: Sequence[Item]) -> list[str]:
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.kind, item.why), []).append(item)
    rows = [(title, "number", "size", "why")]
    rows += [(kind, str(_count(own)), amount(_bytes(own)), why) for (kind, why), own in sorted(groups.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in rows]


def _count(items: Iterable[Item]) -> int:
    return sum(item.count for item in items)


def _bytes(items: Iterable[Item]) -> int:
    return sum(item.bytes for item in items)


def _facts(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "path": str(item.path),
        "count": item.count,
        "bytes": item.bytes,
        "why": item.why,
    }
