"""The one loader of `project.yaml` and `params.yaml`: typed, strict, and clear about what is wrong where."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from contract.errors import InputError

# A step checks its parameters again with the function's signature; here stands what values are allowed.
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A host as Docker tells it from a folder, by a dot, a port or the word localhost; then folders.
_REGISTRY = r"^(localhost|[A-Za-z0-9.-]+:\d+|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$"

_KUBERNETES_NAME = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
Cpu = Annotated[str, Field(pattern=r"^([0-9]*\.)?[0-9]+m?$")]
Memory = Annotated[str, Field(pattern=r"^[0-9]+([KMGTPE]i?)?$")]


class SettingsError(InputError):
    """A settings file is wrong; the message names file, key, value and rule."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Section = TypeVar("Section", bound=_Section)


class Resources(_Section):
    """What a step's pod asks for, and what it may use at most."""

    cpu: Cpu
    cpu_limit: Cpu
    memory: Memory
    memory_limit: Memory


class StepResources(_Section):
    """A pod's resources, for each step."""

    preprocess: Resources
    validate_: Annotated[Resources, Field(alias="validate")]
    train: Resources
    embed: Resources
    index: Resources
    analyse: Resources
    deploy: Resources


class Kubeflow(_Section):
    """How the steps' pods are made."""

    service_account: Annotated[str, Field(pattern=_KUBERNETES_NAME)]
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    image_pull_secret: Annotated[str, Field(pattern=_KUBERNETES_NAME)] | None
    node_selector: dict[str, str]
    gpus: Annotated[int, Field(ge=0)]
    retries: Annotated[int, Field(ge=0, le=10)]
    timeout_minutes: Count
    webhook_secret: Annotated[str, Field(pattern=_KUBERNETES_NAME)] | None
    serving_namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] | None
    resources: StepResources


class Project(_Section):
    """`project.yaml`: who the project is, and how it runs on Kubeflow."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
    title: Annotated[str, Field(min_length=1, max_length=100)]
    registry: Annotated[str, Field(pattern=_REGISTRY, max_length=200)]
    kubeflow: Kubeflow


class Data(_Section):
    source: Literal["sample", "mnist", "folder"]
    mnist_url: Annotated[str, Field(pattern=r"^https?://")]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    channels: Literal[1, 3]
    max_pixels: Count
    validation_fraction: Fraction
    test_fraction: Fraction
    max_unreadable: Annotated[int, Field(ge=0)]
    seed: Seed

    @model_validator(mode="after")
    def _leaves_images_to_train(self) -> "Data":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction together must be less than 1")
        return self


class Validate(_Section):
    min_images_per_class: Count
    max_class_ratio: Annotated[float, Field(ge=1)]
    max_duplicate_fraction: Share


class Train(_Section):
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_fraction: Fraction
    widths: Annotated[list[Count], Field(min_length=1, max_length=8)]
    embedding_size: Annotated[int, Field(ge=2)]
    scale: Annotated[float, Field(gt=0)]
    margin: Annotated[float, Field(ge=0, lt=1.5)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    translation: Share
    zoom: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed
    in_memory_mb: Annotated[int, Field(ge=0)]


class Embed(_Section):
    batch_size: Count


class Index(_Section):
    factory: Annotated[str, Field(min_length=1)]


class Gate(_Section):
    baseline: Share
    worst_class_floor: Share


class Analyse(_Section):
    golden: Count
    mistakes: Annotated[int, Field(ge=0)]
    unknown_quantile: Fraction


class Deploy(_Section):
    polarity: Literal["light-on-dark", "dark-on-light"]
    max_pixels: Count
    max_instances: Annotated[int, Field(ge=1, le=1000)]
    neighbours: Count
    keep: Count


class Params(_Section):
    """`params.yaml`: how the model is made."""

    data: Data
    validate_: Annotated[Validate, Field(alias="validate")]
    train: Train
    embed: Embed
    index: Index
    gate: Gate
    analyse: Analyse
    deploy: Deploy

    @model_validator(mode="after")
    def _network_fits_the_images(self) -> "Params":
        if self.data.image_size >> len(self.train.widths) < 1:
            raise ValueError("train.widths has more entries than data.image_size can be halved")
        return self


def load_project(path: Path) -> Project:
    """`project.yaml`; SettingsError if it is wrong."""
    return _load(path, Project)


def load_params(path: Path) -> Params:
    """`params.yaml`; SettingsError if it is wrong."""
    return _load(path, Params)


def _load(path: Path, kind: type[Section]) -> Section:
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, problem) for problem in error.errors())) from None
    except (yaml.YAMLError, ValueError) as error:  # of a date that is none, say, PyYAML makes a plain ValueError
        raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error


def _explain(path: Path, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "the file"
    match problem["type"]:
        case "extra_forbidden":
            return f"{path}: {key}: there is no such key; remove it or mend its spelling"
        case "missing":
            return f"{path}: {key}: is missing; give it a value"
        case "model_type":
            return f"{path}: {key}: is {problem['input']!r}; it must hold keys with values"
        case "value_error":
            return f"{path}: {key}: {problem['ctx']['error']}"
    return f"{path}: {key}: is {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"
