"""Reads `project.yaml` and `params.yaml`, strictly: an error names file, key, value and rule."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from contract.cluster import SERVING
from contract.errors import InputError
from pipeline.kubernetes_names import Labels, Name, Namespace
from pipeline.placement import AsTuple, Nodes, StepNodes, Toleration, Training
from steps.analyse.parameters import Analyse, Gate
from steps.common.parameters import Count
from steps.deploy.gc.parameters import Gc
from steps.deploy.parameters import Deploy, Serving
from steps.drift.parameters import Drift
from steps.embed.parameters import Embed
from steps.index.parameters import Index
from steps.preprocess.parameters import Data
from steps.registry import CLAIMS, STEP_NAMES, STEPS, Resources
from steps.train.parameters import Train
from steps.validate.parameters import Validate

# A host, which Docker recognises by a dot, a port or the name localhost; then folders.
_REGISTRY = r"^(localhost|[A-Za-z0-9.-]+:\d+|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$"

# So that the pods of a TrainJob, <prefix>train-<id>-node-0-<number>-<suffix>, have names of at most 63 characters.
_LONGEST_PREFIX = 24


class SettingsError(InputError):
    """A wrong settings file; the message names file, key, value and rule."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Section = TypeVar("Section", bound=_Section)


def _of_every_step(changes: Any) -> Any:
    """Complete the resources of some steps, or some of their quantities, by those in the steps' entries."""
    if not isinstance(changes, dict):
        return changes
    if unknown := [str(name) for name in changes if name not in STEP_NAMES]:
        raise ValueError(f"there is no step {', '.join(unknown)}; the steps are {', '.join(STEP_NAMES)}")
    given = {step.name: step.resources.model_dump() for step in STEPS}
    return given | {
        name: given[name] | change if isinstance(change, dict) else change for name, change in changes.items()
    }


# Those that every package has wheels for.
Platform = Literal["linux/amd64", "linux/arm64"]
DEFAULT_PLATFORM: Platform = "linux/amd64"


class Sharding(_Section):
    """How preprocess is spread over pods."""

    shards: Annotated[int, Field(ge=1, le=64)] = 1


class Kubeflow(_Section):
    """The settings of the steps' pods."""

    service_account: Name
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    image_pull_secret: Name | None
    node_selector: Labels
    gpus: Annotated[int, Field(ge=0)]
    retries: Annotated[int, Field(ge=0, le=10)]
    timeout_minutes: Count
    webhook_secret: Name | None
    name_prefix: Annotated[str, Field(pattern=r"^([a-z][a-z0-9-]*)?$", max_length=40)] = ""
    serving_namespace: Namespace | None
    platforms: Annotated[tuple[Platform, ...], AsTuple, Field(min_length=1)] = (DEFAULT_PLATFORM,)
    preprocess: Sharding = Sharding()
    resources: Annotated[dict[str, Resources], BeforeValidator(_of_every_step)] = Field(
        default_factory=dict, validate_default=True
    )
    nodes: StepNodes = Field(default_factory=dict)
    train: Training = Training()

    @model_validator(mode="after")
    def _gpus_have_one_place(self) -> "Kubeflow":
        if self.gpus and self.trains_in_a_job:
            raise ValueError(
                f"gpus is {self.gpus}, which are for train on one node: with train.nodes or train.gpus_per_node above "
                "1 set it to 0, and the GPUs of each node in train.gpus_per_node"
            )
        return self

    @property
    def trains_in_a_job(self) -> bool:
        """Whether train creates a TrainJob, since it is more than one process."""
        return self.train.processes > 1

    def selector(self, step: str) -> dict[str, str]:
        """The labels of the nodes that may run a step's pods; a step's own win."""
        return {**self.node_selector, **self.nodes.get(step, Nodes()).selector}

    def tolerations(self, step: str) -> tuple[Toleration, ...]:
        """The taints that do not keep a step's pods away."""
        return self.nodes.get(step, Nodes()).tolerations

    @model_validator(mode="after")
    def _names_of_jobs_fit(self) -> "Kubeflow":
        if self.trains_in_a_job and len(self.name_prefix) > _LONGEST_PREFIX:
            raise ValueError(
                f"name_prefix is {self.name_prefix!r}, and with train.nodes or train.gpus_per_node above 1 at most "
                f"{_LONGEST_PREFIX} characters, since the names of pods begin with it: choose a shorter one"
            )
        return self

    @property
    def claims(self) -> dict[str, str]:
        """The PersistentVolumeClaim of each volume."""
        return {volume: f"{self.name_prefix}{claim}" for volume, claim in CLAIMS.items()}

    @property
    def account(self) -> str:
        """The service account of the pods."""
        return f"{self.name_prefix}{self.service_account}"

    @property
    def serving(self) -> str:
        """The Deployment that serves, and its Service."""
        return f"{self.name_prefix}{SERVING}"


class Project(_Section):
    """`project.yaml`: the project's names, and its settings for Kubeflow."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    registry: Annotated[str, Field(pattern=_REGISTRY, max_length=200)]
    kubeflow: Kubeflow


class Params(_Section):
    """`params.yaml`: a section for each step, in the classes that the steps read; `serving`, `gc` and `drift`."""

    data: Data
    validate_: Annotated[Validate, Field(alias="validate")]
    train: Train
    embed: Embed
    index: Index
    gate: Gate
    analyse: Analyse
    deploy: Deploy
    serving: Serving = Serving()
    gc: Gc = Gc()
    drift: Drift = Drift()

    @model_validator(mode="after")
    def _network_fits_the_images(self) -> "Params":
        size, widths = self.data.image_size, self.train.widths
        if isinstance(size, int) and isinstance(widths, list) and size >> len(widths) < 1:
            raise ValueError("train.widths has more entries than data.image_size can be halved")
        return self

    def fetches_weights(self) -> bool:
        """Whether pretrained weights may have to be downloaded."""
        data = self.data
        return self.train.is_remote and self.train.wants_backbone(data.source, data.image_size, data.channels)


def load_project(path: Path) -> Project:
    """Read `project.yaml`.

    Args:
        path: The file.

    Returns:
        Its settings.

    Raises:
        SettingsError: The file is missing or wrong.
    """
    return _load(path, Project)


def load_params(path: Path) -> Params:
    """Read `params.yaml`.

    Args:
        path: The file.

    Returns:
        The parameters, in a section for each step.

    Raises:
        SettingsError: The file is missing or wrong.
    """
    return _load(path, Params)


def _load(path: Path, kind: type[Section]) -> Section:
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")), strict=True)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, problem) for problem in error.errors())) from None
    except (yaml.YAMLError, ValueError) as error:  # PyYAML raises a plain ValueError for an impossible date
        raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error


def _explain(path: Path, problem: Any) -> str:
    key, given = ".".join(str(part) for part in problem["loc"]) or "the file", repr(problem["input"])
    match problem["type"]:
        case "extra_forbidden":
            said = "there is no such key; remove it or mend its spelling"
        case "missing":
            said = "is missing; give it a value"
        case "model_type":
            said = f"is {given}; it must hold keys with values"
        case "tuple_type":
            said = f"is {given}; it must be a list, such as [a, b]"
        case "value_error":
            said = str(problem["ctx"]["error"])
        case "string_type":
            said = f"is {given}; it must be a text, quoted if it looks like a number"
        case _:
            without_password = re.sub(r"[^/@]*@", "", given)
            said = f"is {without_password}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
    return f"{path}: {key}: {said}"
