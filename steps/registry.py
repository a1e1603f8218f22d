"""The steps of the pipeline, an entry each, in the order of the graph.

The graph, its package for Kubeflow, the images, the containers on this machine, CI and the table of a run read these
entries. No image has this file, so an entry decides no result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# Each volume with the PersistentVolumeClaim that is mounted at /<volume>; infra/pv-pvc makes them.
CLAIMS = {"data": "data-pvc", "model": "train-model-pvc", "deploy-model": "deploy-model-pvc"}
# Sources of every image with torch.
TORCH = ("steps/torch.txt", "steps/torch-cuda.txt", "steps/torch-dependencies.txt", "steps/torch_build.py")

_Cpu = Annotated[str, Field(pattern=r"^([0-9]*\.)?[0-9]+m?$")]
_Memory = Annotated[str, Field(pattern=r"^[0-9]+([KMGTPE]i?)?$")]


class Resources(BaseModel):
    """The requests and limits of a step's pod, as Kubernetes quantities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: _Cpu
    cpu_limit: _Cpu
    memory: _Memory
    memory_limit: _Memory


def _never(_: Any) -> bool:
    return False


@dataclass(frozen=True)
class Step:
    """A step: its folder in `steps/`, its component and its image have its name."""

    name: str
    title: str  # its display name in Kubeflow
    volumes: tuple[str, ...]  # those that it mounts; on model a run on Kubeflow keeps what its steps said
    resources: Resources  # `kubeflow.resources` in project.yaml may give others
    sources: tuple[str, ...] = ()  # of its image, besides its folder, steps/common and contract
    image_of: str = ""  # the step whose image and resources it uses; empty for its own
    on_serving: bool = False  # its image is built on that of serving
    gpus: bool = False  # it gets the GPUs of `kubeflow.gpus` in project.yaml
    needs_network: Callable[[Any], bool] = _never  # from the parameters: whether a run on this machine downloads

    @property
    def image(self) -> str:
        """The name of its image."""
        return self.image_of or self.name

    @property
    def mounts(self) -> tuple[str, ...]:
        """The paths of its volumes."""
        return tuple(f"/{volume}" for volume in self.volumes)


STEPS = (
    Step(
        name="preprocess",
        title="collect & preprocess data",
        volumes=("data", "model", "deploy-model"),
        resources=Resources(cpu="500m", cpu_limit="2", memory="1Gi", memory_limit="4Gi"),
        needs_network=lambda params: params.data.chosen_source().needs_network,
    ),
    Step(
        name="validate",
        title="validate data",
        volumes=("data", "model"),
        resources=Resources(cpu="500m", cpu_limit="1", memory="1Gi", memory_limit="4Gi"),
        sources=("steps/report",),
    ),
    Step(
        name="train",
        title="train model",
        volumes=("data", "model"),
        resources=Resources(cpu="500m", cpu_limit="4", memory="2Gi", memory_limit="8Gi"),
        sources=TORCH,
        gpus=True,
    ),
    Step(
        name="embed",
        title="embedding",
        volumes=("data", "model"),
        resources=Resources(cpu="500m", cpu_limit="4", memory="1Gi", memory_limit="4Gi"),
        sources=TORCH,
    ),
    Step(
        name="index",
        title="train faiss",
        volumes=("model",),
        resources=Resources(cpu="500m", cpu_limit="2", memory="512Mi", memory_limit="4Gi"),
    ),
    Step(
        name="analyse",
        title="analysis",
        volumes=("data", "model", "deploy-model"),
        resources=Resources(cpu="500m", cpu_limit="4", memory="1Gi", memory_limit="4Gi"),
        sources=TORCH,
    ),
    Step(
        name="deploy",
        title="deploy",
        volumes=("data", "model", "deploy-model"),
        resources=Resources(cpu="500m", cpu_limit="2", memory="1Gi", memory_limit="4Gi"),
        on_serving=True,
    ),
)
STEP_NAMES = tuple(step.name for step in STEPS)
# The pipeline's exit handler: no step of the graph.
REPORT = Step(
    name="report",
    title="report",
    volumes=("model",),
    resources=next(step.resources for step in STEPS if step.name == "validate"),
    image_of="validate",
)
# Every task of the pipeline, by name.
TASKS = {step.name: step for step in (*STEPS, REPORT)}
