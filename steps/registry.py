"""The steps of the pipeline, an entry each, in the order of the graph.

The graph, its package for Kubeflow, the images, the containers on this machine, CI and the table of a run read these
entries. No image has this file, so an entry decides no result.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

# Each volume with the PersistentVolumeClaim that is mounted at /<volume>; infra/pv-pvc makes them.
CLAIMS = {"data": "data-pvc", "model": "train-model-pvc", "deploy-model": "deploy-model-pvc"}
# Sources of every image with torch.
TORCH = ("steps/torch.txt", "steps/torch-cuda.txt", "steps/torch-dependencies.txt", "steps/torch_build.py")

# Powers of 1000 and 1024 that Kubernetes and kfp both know; kfp writes no `k`.
_UNITS = {"": 1, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30, "T": 10**12, "Ti": 2**40}
_LEAST_MEMORY = 16 * 2**20  # less starts no container with Python in it


def _cpu(text: str) -> str:
    """Check an amount of CPU: a whole number of thousandths, above 0."""
    if not re.fullmatch(r"[0-9]+m|[0-9]*\.?[0-9]{1,3}", text) or _cores(text) <= 0:
        raise ValueError(f"is {text!r}; it must be CPUs above 0, such as '500m', '2' or '1.5'")
    return text


def _memory(text: str) -> str:
    """Check an amount of memory."""
    if not re.fullmatch(rf"[0-9]+({'|'.join(_UNITS)})", text) or _bytes(text) < _LEAST_MEMORY:
        raise ValueError(f"is {text!r}; it must be bytes from 16Mi, such as '512Mi' or '4Gi' ({', '.join(_UNITS)[2:]})")
    return text


def _cores(text: str) -> Decimal:
    return Decimal(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def _bytes(text: str) -> int:
    number = re.match(r"[0-9]+", text)
    return int(number[0]) * _UNITS[text[number.end() :]] if number else 0


_Cpu = Annotated[str, AfterValidator(_cpu)]
_Memory = Annotated[str, AfterValidator(_memory)]


class Resources(BaseModel):
    """The requests and limits of a step's pod, as Kubernetes quantities; no request is above its limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: _Cpu
    cpu_limit: _Cpu
    memory: _Memory
    memory_limit: _Memory

    @model_validator(mode="after")
    def _request_is_within_the_limit(self) -> "Resources":
        for name, amount in (("cpu", _cores), ("memory", _bytes)):
            request, limit = getattr(self, name), getattr(self, f"{name}_limit")
            if amount(request) > amount(limit):
                raise ValueError(
                    f"{name} is {request!r}, which is above {name}_limit {limit!r}: lower the one or raise the other"
                )
        return self


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
        sources=("steps/drift",),
        needs_network=lambda params: params.data.chosen_source().needs_network or params.fetches_weights(),
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
# Tasks before preprocess where `kubeflow.preprocess.shards` in project.yaml is more than 1: parts of its work.
_PREPROCESS = next(step for step in STEPS if step.name == "preprocess")
SCAN = replace(_PREPROCESS, name="scan", title="scan the source", image_of="preprocess")
DECODE = replace(_PREPROCESS, name="decode", title="decode images", volumes=("data", "model"), image_of="preprocess")
# The tasks that a run may show, in the order of the graph.
SHOWN = (SCAN, DECODE, *STEPS)
# Every task of the pipeline, by name.
TASKS = {step.name: step for step in (*SHOWN, REPORT)}
