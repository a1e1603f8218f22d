"""The cron expression of a schedule: checks it, and writes it as Kubeflow takes it, with six fields.

Kubeflow reads cron expressions with robfig/cron 1.2. That takes fewer forms than crontab does: no 7 for Sunday, and no
range that ends before it begins, such as FRI-MON. Such fields are written out as lists here.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from croniter import croniter
from croniter.croniter import DOW_ALPHAS, M_ALPHAS, CroniterBadDateError

from pipeline.settings import SettingsError


class _Field(NamedTuple):
    name: str
    first: int
    last: int
    names: str = ""


_DAY_OF_WEEK = _Field("day of the week", 0, 6, " or SUN to SAT")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, " or JAN to DEC"),
    _DAY_OF_WEEK,
)
_PART = r"([*?]|(\d+|[A-Za-z]{3})(-(\d+|[A-Za-z]{3}))?)(/\d+)?"
_SYNTAX = re.compile(rf"{_PART}(,{_PART})*")
_NICKNAMES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_NAMES = {**M_ALPHAS, **DOW_ALPHAS}


def kubeflow_cron(text: str) -> str:
    """Write a cron expression as Kubeflow takes it.

    Args:
        text: Five fields, as in a crontab; six, with seconds first; or a nickname such as `@daily`.

    Returns:
        Six fields, with seconds first.

    Raises:
        SettingsError: It is no cron expression, or it never runs.
    """
    fields = _split(text)
    for position, (field, text_of_field) in enumerate(zip(_FIELDS, fields, strict=True)):
        others = ["*"] * len(fields)
        others[position] = text_of_field
        if not _SYNTAX.fullmatch(text_of_field) or not croniter.is_valid(_plain(others), second_at_beginning=True):
            allowed = f"{field.first} to {field.last}{field.names}"
            raise SettingsError(
                f"--cron: is {text!r}; its {field.name} is {text_of_field!r}, which must be {allowed}, *, or "
                "a list of these"
            )
    try:
        # As robfig/cron: where day or day of the week begins with *, both must match; else one of them.
        runs = croniter(_plain(fields), datetime.now(UTC), second_at_beginning=True, implement_cron_bug=True)
        runs.get_next()
    except CroniterBadDateError as error:
        raise SettingsError(f"--cron: is {text!r}; it would never run: none of its months has such a day") from error
    *values, seconds = croniter.expand(_plain(fields), second_at_beginning=True)[0]
    return " ".join(map(_as_robfig_takes_it, _FIELDS, fields, [seconds, *values]))


def _split(text: str) -> list[str]:
    if text in _NICKNAMES:
        values = croniter.expand(text)[0]
        return ["0", *(",".join(map(str, value)) for value in values)]
    fields = text.split()
    if len(fields) not in (5, 6):
        raise SettingsError(
            f"--cron: is {text!r}; it must have five fields, such as '0 3 * * *' (minute, hour, day, month, day of the "
            "week), six with seconds first, or be a nickname such as @daily",
        )
    return ["0", *fields] if len(fields) == 5 else fields


def _plain(fields: list[str]) -> str:
    """The fields for croniter, which takes `?` in two fields only."""
    return " ".join(fields).replace("?", "*")


def _as_robfig_takes_it(field: _Field, text: str, values: list[int | str]) -> str:
    """The text of a field, or the list of its values where robfig/cron does not take the text."""
    ranges = [part.partition("/")[0].partition("-") for part in text.split(",")]
    falling = any(last and _number(first) > _number(last) for first, _, last in ranges)
    sunday = field is _DAY_OF_WEEK and any("7" in (first.lstrip("0"), last.lstrip("0")) for first, _, last in ranges)
    if not falling and not sunday:
        return text
    # Every value is no *, which would change how day and day of the week go together.
    return f"{field.first}-{field.last}" if values == ["*"] else ",".join(map(str, values))


def _number(text: str) -> int:
    return int(_NAMES.get(text.lower(), text))
