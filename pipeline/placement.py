"""The settings of where pods run: `kubeflow.nodes` and `kubeflow.train` of `project.yaml`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.kubernetes_names import LabelKey, Labels, LabelValue
from steps.registry import STEP_NAMES

# As a tuple, since settings are frozen; YAML has lists.
AsTuple = BeforeValidator(lambda values: tuple(values) if isinstance(values, list) else values)


class _Setting(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Toleration(_Setting):
    """A taint of nodes that does not keep a pod away, as Kubernetes writes it; without a key every taint."""

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _is_one_of_kubernetes(self) -> "Toleration":
        if self.key is None and self.operator != "Exists":
            raise ValueError("has no key, which only the operator Exists may leave out")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"has the value {self.value!r}, which the operator Exists does not compare: remove it")
        return self

    def manifest(self) -> dict[str, str]:
        """As Kubernetes takes it."""
        return self.model_dump(exclude_none=True)

    def covers(self, taint: dict[str, str]) -> bool:
        """Whether a pod with it may run on a node with a taint; the rules are those of Kubernetes' scheduler."""
        return (
            (self.effect is None or self.effect == taint.get("effect"))
            and (self.key is None or self.key == taint.get("key"))
            and (self.operator == "Exists" or (self.value or "") == taint.get("value", ""))
        )


class Nodes(_Setting):
    """The nodes of a step's pods, besides `kubeflow.node_selector`."""

    selector: Labels = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], AsTuple] = ()


def _known_steps(nodes: dict[str, Any]) -> dict[str, Any]:
    if unknown := [name for name in nodes if name not in STEP_NAMES]:
        raise ValueError(f"there is no step {', '.join(unknown)}; the steps are {', '.join(STEP_NAMES)}")
    return nodes


StepNodes = Annotated[dict[str, Nodes], AfterValidator(_known_steps)]


class Training(_Setting):
    """How many nodes train, and with how many GPUs each; one process a GPU, or one a node without GPUs."""

    nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _is_worth_a_job(self) -> "Training":
        if self.nodes == self.gpus_per_node == 1:
            raise ValueError("is one process, which trains in the step's own pod: set kubeflow.gpus to 1 instead")
        return self

    @property
    def processes_per_node(self) -> int:
        """Of one node's processes, each has a GPU, or all of its processors."""
        return max(self.gpus_per_node, 1)

    @property
    def processes(self) -> int:
        """Of all nodes."""
        return self.nodes * self.processes_per_node
