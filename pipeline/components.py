"""The pipeline's components: each calls its step's function, in that step's image.

kfp copies the source of a component alone into its container, so each imports its step itself. A section of
`params.yaml` is a dictionary here; the step's function converts it to its class.
"""

from typing import NamedTuple

from kfp import dsl

# mypy cannot read a NamedTuple within an annotation, where kfp needs it, nor know that a step converts dictionaries.
# mypy: disable-error-code="valid-type, no-any-return, arg-type"


def scan(
    name: str,
    data: dict,  # type: ignore[type-arg]
    validate: dict,  # type: ignore[type-arg]
    train: dict,  # type: ignore[type-arg]
    embed: dict,  # type: ignore[type-arg]
    index: dict,  # type: ignore[type-arg]
    baseline: float,
    gate: dict,  # type: ignore[type-arg]
    analyse: dict,  # type: ignore[type-arg]
    deploy: dict,  # type: ignore[type-arg]
    code: str,
    shards: int,
) -> NamedTuple("Scanned", [("settled", bool), ("shards", list)]):
    """See whether an earlier run has done all work, and by how many shards new images are to be decoded."""
    from steps.common.settled import recall, work_of
    from steps.preprocess.shard import scan as step

    scanned = step(data, train, shards)
    parameters = [name, data, validate, train, embed, index, baseline, gate, analyse, deploy]
    work = work_of(code, parameters, scanned.inputs) if scanned.inputs else ""
    return recall(work, "scan"), scanned.shards


def decode(
    data: dict,  # type: ignore[type-arg]
    shard: str,
) -> None:
    """Decode the new images of a shard."""
    from steps.preprocess.shard import decode as step

    step(data, shard)


def preprocess(
    name: str,
    data: dict,  # type: ignore[type-arg]
    validate: dict,  # type: ignore[type-arg]
    train: dict,  # type: ignore[type-arg]
    embed: dict,  # type: ignore[type-arg]
    index: dict,  # type: ignore[type-arg]
    baseline: float,
    gate: dict,  # type: ignore[type-arg]
    analyse: dict,  # type: ignore[type-arg]
    deploy: dict,  # type: ignore[type-arg]
    code: str,
) -> NamedTuple(
    "Splits",
    [
        ("train", str),
        ("validation", str),
        ("gallery", str),
        ("test", str),
        ("weights", str),
        ("lacking", str),
        ("work", str),
        ("settled", bool),
    ],
):
    """Collect and preprocess data, and see whether an earlier run has done all work."""
    from steps.common.settled import recall, work_of
    from steps.preprocess.preprocess import prepare as step

    ids, weights = step(data, train)
    parameters = [name, data, validate, train, embed, index, baseline, gate, analyse, deploy]
    work = work_of(code, parameters, {**ids, "weights": weights.id})
    settled = recall(work, "preprocess")
    splits = ids["train"], ids["validation"], ids["gallery"], ids["test"]
    return *splits, weights.id, weights.lacking, work, settled


def validate(
    train: str,
    validation: str,
    gallery: str,
    test: str,
    data: dict,  # type: ignore[type-arg]
    validate: dict,  # type: ignore[type-arg]
    training: dict,  # type: ignore[type-arg]
    index: dict,  # type: ignore[type-arg]
    gate: dict,  # type: ignore[type-arg]
) -> str:
    """Validate data."""
    from steps.validate.validate import validate as step

    splits = {"train": train, "validation": validation, "gallery": gallery, "test": test}
    return step(
        splits,
        data,
        validate,
        source=data["source"],
        factory=index["factory"],
        embedding_size=training["embedding_size"],
        allow_lost_classes=gate["allow_lost_classes"],
    )


def train(
    train_split: str,
    validation_split: str,
    weights: str,
    train: dict,  # type: ignore[type-arg]
) -> str:
    """Train the network."""
    from steps.train.train import train as step

    return step(train_split, validation_split, train, weights)


def embed(
    gallery: str,
    network: str,
    embed: dict,  # type: ignore[type-arg]
) -> str:
    """Embed the gallery."""
    from steps.embed.embed import embed as step

    return step(gallery, network, embed)


def index(
    embeddings: str,
    index: dict,  # type: ignore[type-arg]
) -> str:
    """Index the embeddings."""
    from steps.index.index import index as step

    return step(embeddings, index)


def analyse(
    test: str,
    network: str,
    index: str,
    validation: str,
    baseline: float,
    gate: dict,  # type: ignore[type-arg]
    embed: dict,  # type: ignore[type-arg]
    analyse: dict,  # type: ignore[type-arg]
    deploy: dict,  # type: ignore[type-arg]
    lacking: str,
    work: str,
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    card: dsl.Output[dsl.Markdown],
) -> NamedTuple("Outputs", [("accuracy", float), ("accepted_accuracy", float), ("verdict", str), ("reason", str)]):
    """Score network and index, and judge them."""
    import shutil

    from steps.analyse.analyse import analyse as step
    from steps.common.settled import remember

    gate = {"baseline": baseline, **gate}
    analysis = step(
        test, network, index, validation, gate=gate, batches=embed, search=deploy, parameters=analyse, lacking=lacking
    )
    verdict = analysis.verdict
    metrics.log_metric("accuracy", verdict.accuracy)
    metrics.log_metric("worst class accuracy", verdict.worst_accuracy)
    confusion.log_confusion_matrix(analysis.classes, analysis.confusion)
    shutil.copyfile(analysis.report, report.path)
    shutil.copyfile(analysis.short, card.path)
    if not verdict.better:
        remember(work, f"REJECTED {verdict.reason}", {"verdict": analysis.id, "network": network, "index": index})
    # The accepted accuracy is 0 of a model that breaks any rule: the graph asks for one number, since each of its
    # conditions costs a pod.
    return verdict.accuracy, verdict.accuracy if verdict.better else 0.0, analysis.id, verdict.reason


def report(
    status: dsl.PipelineTaskFinalStatus,
    name: str,
) -> None:
    """Report how the run ended."""
    from steps.report.report import report as step

    step(name, status.state, status.error_message)


def deploy(
    name: str,
    network: str,
    index: str,
    verdict: str,
    reason: str,
    deploy: dict,  # type: ignore[type-arg]
    serving: dict,  # type: ignore[type-arg]
    work: str,
) -> str:
    """Archive the model, prove it, and point serving at it."""
    from steps.common.settled import remember
    from steps.deploy.deploy import deploy as step

    version = step(network, index, verdict, name=name, parameters=deploy, serving=serving)
    remember(work, f"UNCHANGED {version}: {reason}", {"verdict": verdict, "network": network, "index": index})
    return version
