"""The pipeline's components: each calls its step's function, in that step's image.

A component's source travels into its container alone, so what it imports is imported within it.
"""

from typing import NamedTuple

from kfp import dsl

# mypy cannot read a NamedTuple that stands within an annotation, where kfp needs it.
# mypy: disable-error-code="valid-type, no-any-return"


def preprocess(
    data: dict,  # type: ignore[type-arg]
) -> NamedTuple("Splits", [("train", str), ("validation", str), ("gallery", str), ("test", str)]):
    """Collect and preprocess data."""
    from steps.preprocess import preprocess as step

    ids = step(**data)
    return ids["train"], ids["validation"], ids["gallery"], ids["test"]


def validate(
    train: str,
    validation: str,
    gallery: str,
    test: str,
    data: dict,  # type: ignore[type-arg]
    validate: dict,  # type: ignore[type-arg]
) -> str:
    """Validate data."""
    from steps.validate import validate as step

    splits = {"train": train, "validation": validation, "gallery": gallery, "test": test}
    return step(splits, image_size=data["image_size"], channels=data["channels"], **validate)


def train(
    train_split: str,
    validation_split: str,
    train: dict,  # type: ignore[type-arg]
) -> str:
    """Train the network."""
    from steps.train import train as step

    return step(train_split, validation_split, **train)


def embed(
    gallery: str,
    network: str,
    embed: dict,  # type: ignore[type-arg]
) -> str:
    """Embed the gallery."""
    from steps.embed import embed as step

    return step(gallery, network, **embed)


def index(
    embeddings: str,
    index: dict,  # type: ignore[type-arg]
) -> str:
    """Index the embeddings."""
    from steps.index import index as step

    return step(embeddings, **index)


def analyse(
    test: str,
    network: str,
    index: str,
    validation: str,
    baseline: float,
    worst_class_floor: float,
    embed: dict,  # type: ignore[type-arg]
    analyse: dict,  # type: ignore[type-arg]
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
) -> NamedTuple("Outputs", [("accuracy", float), ("better", bool), ("verdict", str), ("reason", str)]):
    """Score network and index, and judge them."""
    import shutil

    from steps.analyse import analyse as step

    settings = {**embed, **analyse, "baseline": baseline, "worst_class_floor": worst_class_floor}
    analysis = step(test, network, index, validation, **settings)
    verdict = analysis.verdict
    metrics.log_metric("accuracy", verdict.accuracy)
    metrics.log_metric("worst class accuracy", verdict.worst_accuracy)
    confusion.log_confusion_matrix(analysis.classes, analysis.confusion)
    shutil.copyfile(analysis.report, report.path)
    return verdict.accuracy, verdict.better, analysis.id, verdict.reason


def report(
    status: dsl.PipelineTaskFinalStatus,
    name: str,
) -> None:
    """Report how the run ended."""
    from steps.report import report as step

    step(name, status.state, status.error_message)


def deploy(
    name: str,
    network: str,
    index: str,
    verdict: str,
    data: dict,  # type: ignore[type-arg]
    deploy: dict,  # type: ignore[type-arg]
) -> str:
    """Archive the model, prove it, and point serving at it."""
    from steps.deploy import deploy as step

    images = {key: data[key] for key in ("image_size", "channels")}
    return step(network, index, verdict, name=name, **images, **deploy)
