"""Draws a comparison of what is served with test, and writes it as a page without other files."""

import io
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline import page
from pipeline.loop.drift_table import HEAD, compared, rows_of
from steps.drift.measure import Measured
from steps.drift.sample import Buckets, Distances, Sample

_MOST_CLASSES = 20  # in a picture, the most frequent ones
_TEST, _SERVED = "#4a6fa5", "#c8553d"


def write_page(path: Path, found: Measured) -> None:
    """Write the page.

    Args:
        path: The file.
        found: The comparison.

    Raises:
        InputError: It cannot be written.
    """
    page.write_page(
        path,
        Path(__file__).with_name("drift.html.jinja"),
        word=found.comparison.word,
        why=found.comparison.why,
        compared=compared(found),
        at=found.record.at,
        head=HEAD,
        rows=rows_of(found),
        picture=Markup(_picture(found.test, found.served)) if found.served.images else "",  # noqa: S704 - matplotlib's
    )


def _picture(test: Sample, served: Sample) -> str:
    """Curves of the distances and bars of the classes, as SVG."""
    has_features = test.features_distances is not None and served.features_distances is not None
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 2 + has_features, squeeze=False)[0]
    assert not isinstance(test.distances, Buckets)  # noqa: S101 - only metrics of a server are histograms
    _curves(axes[0], "distance to the gallery", test.distances, served.distances)
    if test.features_distances is not None and served.features_distances is not None:
        _curves(axes[1], "features distance", test.features_distances, served.features_distances)
    _bars(axes[-1], test, served)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


def _curves(axes: Axes, title: str, test: Distances, served: Distances | Buckets) -> None:
    """Cumulative curves: the largest gap between the two is the size of the effect."""
    axes.ecdf(test, label="test", color=_TEST)
    if isinstance(served, Buckets):
        shares = np.cumsum(served.counts[:-1]) / max(sum(served.counts), 1)
        axes.step(served.edges, shares, where="post", label="served", color=_SERVED)
    else:
        axes.ecdf(served, label="served", color=_SERVED)
    axes.set(title=title, ylabel="share of the images", ylim=(0, 1), xlim=(0, None))


def _bars(axes: Axes, test: Sample, served: Sample) -> None:
    """The share of each answer; of many classes, the most frequent ones."""
    both = {
        name: test.answers.get(name, 0) / test.images + served.answers.get(name, 0) / served.images
        for name in {*test.answers, *served.answers}
    }
    names = sorted(sorted(both, key=lambda name: -both[name])[:_MOST_CLASSES])
    place = np.arange(len(names))
    for sample, shift, colour in ((test, -0.2, _TEST), (served, 0.2, _SERVED)):
        shares = [sample.answers.get(name, 0) / sample.images for name in names]
        axes.bar(place + shift, shares, 0.4, color=colour)
    axes.set(title="answers", ylabel="share of the images")
    axes.set_xticks(place, names, rotation=90 if max(map(len, names)) > 2 else 0)
