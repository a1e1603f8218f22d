"""The graph: seven steps and the gate, the same wherever it runs."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

from kfp import dsl

from pipeline import components
from pipeline.settings import Params, Project
from steps.common.digest import STEPS

DISPLAY_NAMES = {
    "preprocess": "collect & preprocess data",
    "validate": "validate data",
    "train": "train model",
    "embed": "embedding",
    "index": "train faiss",
    "analyse": "analysis",
    "deploy": "deploy",
}


def build_pipeline(
    project: Project,
    images: Mapping[str, str],
    on_task: Callable[[dsl.PipelineTask], None] = lambda _: None,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Any:
    """The pipeline, each step in the image given for it.

    What the place where it runs needs may be added: `on_task` to each task, `around` about them all.
    """
    step = SimpleNamespace(
        **{
            name: dsl.component(getattr(components, name), base_image=images[name], install_kfp_package=False)
            for name in STEPS
        }
    )

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
    ) -> None:
        with around():
            dataset = step.preprocess(data=data)
            splits = dataset.outputs
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
            network = step.train(train_split=splits["train"], validation_split=splits["validation"], train=train)
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
            )
            served = None
            with dsl.If(analysis.outputs["accuracy"] > baseline, name="above-baseline"):  # noqa: SIM117 - two gates
                with dsl.If(analysis.outputs["better"] == True, name="better"):  # noqa: E712 - it builds a condition
                    served = step.deploy(
                        name=name,
                        network=network.output,
                        index=faiss.output,
                        verdict=analysis.outputs["verdict"],
                        data=data,
                        deploy=deploy,
                    )
            for task in (dataset, sound, network, embeddings, faiss, analysis, served):
                task.set_caching_options(False)  # kfp's cache keys on a claim's name, not on what the volume holds
                task.set_display_name(DISPLAY_NAMES[task.name])
                on_task(task)

    return pipeline


def arguments(project: Project, params: Params) -> dict[str, Any]:
    """What the pipeline is run with, from the two settings files."""
    sections = params.model_dump(by_alias=True)
    baseline = sections["gate"].pop("baseline")  # a parameter by itself, since a condition of the graph reads it
    return {"name": project.name, "baseline": baseline, **sections}
