"""Puts a comparison of what is served with test into the cells of a table, and into a sentence."""

from steps.drift.measure import METRICS, Measured

HEAD = ("", "test", "served", "p", "effect", "small, large", "says")


def rows_of(found: Measured) -> list[tuple[str, ...]]:
    """A row under HEAD for each test."""
    return [
        (
            each.name,
            each.test,
            each.served,
            "< 0.0001" if each.p < 0.0001 else f"{each.p:.4f}",
            f"{each.size.symbol} {each.effect:.2f}",
            f"{each.size.small:g}, {each.size.large:g}",
            str(each.word),
        )
        for each in found.comparison.findings
    ]


def compared(found: Measured) -> str:
    """What was compared, in a sentence."""
    version, images = found.record.version, found.record.images
    if found.record.source == METRICS:
        source = f"{images} images that the running server counted since its start, by its metrics, which are coarse"
    else:
        source = f"{images} images collected at random since {found.record.since}"
    return f"version {version}: {source}; {found.test.images} images of test"
