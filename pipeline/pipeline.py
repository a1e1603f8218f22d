"""The graph of the pipeline: its steps and the gate. It is the same on this machine, in containers and on Kubeflow."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

from kfp import dsl

from pipeline import components
from pipeline.settings import Params, Project
from steps.registry import SHOWN, Step


def build_pipeline(
    project: Project,
    images: Mapping[str, str],
    on_task: Callable[[dsl.PipelineTask], None] = lambda _: None,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    code: str = "",
) -> Any:
    """Build the graph, with each step in its image.

    With more than one shard of the source, the first task only sees whether there is work. Then a task for each shard
    decodes its images, and preprocess finds them decoded.

    Args:
        project: The project: the pipeline's name and description, and `kubeflow.preprocess.shards`.
        images: The image of each step.
        on_task: Called with each task, to add what the place where it runs needs.
        around: A context around all tasks.
        code: A digest of all that decides a run beside its parameters and data. A run ends after its first step if the
            last one had the same; without a digest, every step looks itself whether its result is there.

    Returns:
        The pipeline, as kfp compiles or runs it.
    """

    def task_of(step: Step) -> Callable[..., dsl.PipelineTask]:
        component = dsl.component(
            getattr(components, step.name), base_image=images[step.image], install_kfp_package=False
        )

        def make(**inputs: Any) -> dsl.PipelineTask:
            task = component(**inputs)
            task.set_caching_options(False)  # kfp's cache knows the names of claims, not what the volumes hold
            task.set_display_name(step.title)
            on_task(task)
            return task

        return make

    step = SimpleNamespace(**{each.name: task_of(each) for each in SHOWN})
    shards = project.kubeflow.preprocess.shards

    @dsl.pipeline(  # type: ignore[untyped-decorator]
        name=project.name, description=project.title
    )
    def pipeline(
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
        serving: dict,  # type: ignore[type-arg]
    ) -> None:
        with around():
            work = {
                "name": name,
                "data": data,
                "validate": validate,
                "train": train,
                "embed": embed,
                "index": index,
                "baseline": baseline,
                "gate": gate,
                "analyse": analyse,
                "deploy": deploy,
                "code": code,
            }
            first = step.preprocess(**work) if shards == 1 else step.scan(**work, shards=shards)
            with dsl.If(first.outputs["settled"] == False, name="work-to-do"):  # noqa: E712 - it builds a condition
                splits = first.outputs
                if shards > 1:
                    with dsl.ParallelFor(first.outputs["shards"], name="shards", parallelism=shards) as shard:
                        decoded = step.decode(data=data, shard=shard)
                    splits = step.preprocess(**work).after(decoded).outputs
                sound = step.validate(
                    train=splits["train"],
                    validation=splits["validation"],
                    gallery=splits["gallery"],
                    test=splits["test"],
                    data=data,
                    validate=validate,
                    training=train,
                    index=index,
                    gate=gate,
                )
                network = step.train(
                    train_split=splits["train"],
                    validation_split=splits["validation"],
                    weights=splits["weights"],
                    train=train,
                )
                network.after(sound)
                embeddings = step.embed(gallery=splits["gallery"], network=network.output, embed=embed)
                faiss = step.index(embeddings=embeddings.output, index=index)
                analysis = step.analyse(
                    test=splits["test"],
                    network=network.output,
                    index=faiss.output,
                    validation=splits["validation"],
                    baseline=baseline,
                    gate=gate,
                    embed=embed,
                    analyse=analyse,
                    deploy=deploy,
                    lacking=splits["lacking"],
                    work=splits["work"],
                )
                # Of a model that breaks any other rule, the accepted accuracy is 0.
                with dsl.If(analysis.outputs["accepted_accuracy"] > baseline, name="above-baseline"):
                    step.deploy(
                        name=name,
                        network=network.output,
                        index=faiss.output,
                        verdict=analysis.outputs["verdict"],
                        reason=analysis.outputs["reason"],
                        deploy=deploy,
                        serving=serving,
                        work=splits["work"],
                    )

    return pipeline


def arguments(project: Project, params: Params) -> dict[str, Any]:
    """Return the arguments of the pipeline: the project's name, and the sections of `params.yaml`.

    Args:
        project: The project.
        params: The parameters of the steps.

    Returns:
        The value of each of the pipeline's inputs.
    """
    sections = params.model_dump(by_alias=True, exclude={"gc", "drift"})
    baseline = sections["gate"].pop("baseline")  # a parameter by itself, since a condition of the graph reads it
    return {"name": project.name, "baseline": baseline, **sections}
