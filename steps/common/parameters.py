"""The base class of the steps' parameters, the kinds of numbers in them, and the check of a step's arguments.

Imports no library but pydantic: the command line loads `params.yaml` with these classes before it loads anything else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Final, Literal, ParamSpec, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, field_validator, validate_call
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from steps.common.errors import StepError

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

Auto = Literal["auto"]
AUTO: Final = "auto"

SMALL: Final = "small"  # of `backbone`, which is a name of timm's otherwise
DEFAULT_BACKBONE = "tf_efficientnet_lite0.in1k"  # what `auto` stands for where `small` is too small
_SMALL_SOURCES = ("sample", "mnist")
SMALL_SIDE = 32  # pixels

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class NoEffect:
    """Marks a parameter that cannot change the step's result, such as a limit of memory: it is not part of an id."""


@dataclass(frozen=True)
class Tuned:
    """Marks a parameter that `make tune` varies between two values; `log`: evenly in its logarithm."""

    low: float
    high: float
    log: bool = False


class OrAuto:
    """Lets a field be `auto`, beside what its type says: then its value follows from the data.

    Args:
        kind: The type of what else it may be, with its range.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any, otherwise: Callable[[Any], Any]) -> Any:
            if value == AUTO:
                return AUTO
            try:
                return otherwise(value)
            except ValidationError as error:
                said = error.errors()[0]["msg"]
                raise PydanticCustomError("or_auto", "{said}, or auto", {"said": said}) from error

        chosen = handler.generate_schema(self._kind)
        return core_schema.no_info_wrap_validator_function(
            check, chosen, serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value)
        )


class Parameters(BaseModel):
    """The parameters of a step: each field has a type, a range and a description, and stands nowhere else."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def deciding(self) -> dict[str, Any]:
        """The parameters that decide the result, by name: all but those marked NoEffect."""
        fields = type(self).model_fields.items()
        return self.model_dump(exclude={name for name, field in fields if NoEffect() in field.metadata})


Side = Annotated[int, Field(ge=8, le=1024)]
Channels = Literal[1, 3]


class ImageFormat(Parameters, extra="ignore"):
    """The format of every image in a dataset; other keys are ignored."""

    image_size: Side = Field(description="pixels a side, to which each image is scaled")
    channels: Channels = Field(description="1: grey, 3: colour")

    def __str__(self) -> str:
        """As the closing table says it."""
        return f"{self.image_size} x {self.image_size} {'grey' if self.channels == 1 else 'colour'}"


def are_like_digits(image_size: int | Auto, channels: int | Auto) -> bool:
    """Whether images are grey and as small as those that `small` is made for; not where `auto` leaves that open."""
    return channels == 1 and image_size != AUTO and image_size <= SMALL_SIDE


class WantedFormat(Parameters, extra="ignore"):
    """The format that the section `data` asks for: numbers, or `auto` where the images decide; others are ignored."""

    image_size: Annotated[Side | Auto, OrAuto(Side)] = Field(
        AUTO, description="pixels a side, to which each image is scaled; auto: by the sizes of the images"
    )
    channels: Annotated[Channels | Auto, OrAuto(Channels)] = Field(
        AUTO, description="1: grey, 3: colour; auto: by whether the images have colour"
    )

    def completed(self, found: ImageFormat) -> ImageFormat:
        """The format with what is `auto` here as it was found."""
        return ImageFormat(**{**found.deciding(), **self.numbers()})

    def numbers(self) -> dict[str, Any]:
        """What is not `auto` of size and channels, by name."""
        wanted = {"image_size": self.image_size, "channels": self.channels}
        return {name: value for name, value in wanted.items() if value != AUTO}


class Pretrained(Parameters, extra="ignore"):
    """Which network is trained, and where its pretrained weights come from; other keys of `train` are ignored."""

    backbone: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)?$", max_length=100)] = Field(
        AUTO, description="small; or a network of timm, by its name; or auto"
    )
    backbone_url: Annotated[str, NoEffect()] = Field(
        "https://huggingface.co/timm/{backbone}/resolve/main/model.safetensors",
        description="of its pretrained weights: https://, file://, or a path on the data volume",
    )
    backbone_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$"), NoEffect()] = Field(
        "", description="of these weights; empty: the one that their server names, if it does"
    )

    @field_validator("backbone_url")
    @classmethod
    def _is_a_place(cls, url: str) -> str:
        scheme, found, _ = url.partition("://")
        if not url or (found and scheme not in ("http", "https", "file")):
            raise ValueError(f"is {url!r}; it must begin with https://, http:// or file://, or be a path")
        return url

    def wants_backbone(self, source: str, image_size: int | Auto, channels: int | Auto) -> bool:
        """Whether a network of timm is to be trained on such images.

        Args:
            source: The name of their source.
            image_size: Pixels a side.
            channels: 1 for grey images, 3 for colour.

        Returns:
            For `auto`: unless `small` is made for that source, or the images are grey and as small as its. Where size
            or channels are `auto`, it may be.
        """
        if self.backbone == AUTO:
            return source not in _SMALL_SOURCES and not are_like_digits(image_size, channels)
        return self.backbone != SMALL

    @property
    def is_remote(self) -> bool:
        """Whether pretrained weights are fetched from a server."""
        return self.backbone_url.startswith(("http://", "https://"))

    def resolved(self, weights: str) -> Self:
        """With the network that `auto` stands for.

        Args:
            weights: The id of its pretrained weights; empty if there are none.

        Returns:
            These parameters, with `small` or the name of a backbone.
        """
        meant = (DEFAULT_BACKBONE if weights else SMALL) if self.backbone == AUTO else self.backbone
        return self.model_copy(update={"backbone": meant})


class Batches(Parameters, extra="ignore"):
    """How images are embedded; other keys of the section `embed` are ignored."""

    batch_size: Annotated[Count, NoEffect()] = Field(description="images read at a time; does not change the result")


class Neighbours(Parameters, extra="ignore"):
    """How the server searches; other keys of the section `deploy` are ignored."""

    neighbours: Count = Field(description="in an answer")


def typed(step: Callable[P, R]) -> Callable[P, R]:
    """Check a step's arguments, and convert them to the types in its signature.

    A dictionary becomes the class of parameters in its place. Kubeflow Pipelines sends each number in a dictionary as a
    float, so 22.0 becomes 22 where the class has an integer.

    Args:
        step: The step's function, with a type for each argument.

    Returns:
        The function, which raises StepError naming each argument or field that is wrong, unknown or missing.
    """
    checked = validate_call(step)

    @wraps(step)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return checked(*args, **kwargs)
        except ValidationError as error:
            problems = "; ".join(map(_problem, error.errors()))
            raise StepError(f"the parameters of {step.__name__} are wrong: {problems}") from error

    return call


def _problem(problem: Any) -> str:
    argument, *field = map(str, problem["loc"])
    found = "" if problem["type"].startswith("missing") else f", is {problem['input']!r}"
    return f"{'.'.join(field) or argument}: {problem['msg']}{found}"
