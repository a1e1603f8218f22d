"""The parameters of preprocess: the section `data` of `params.yaml`, with the parameters of every source."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, create_model, field_validator, model_validator

from steps.common.parameters import Count, Fraction, NoEffect, Seed, WantedFormat
from steps.preprocess.sources import SOURCES
from steps.preprocess.sources.labelled import WithLabelled
from steps.preprocess.sources.source import Source

Kind = TypeVar("Kind", bound=WantedFormat)


def _with_sources(kind: type[Kind]) -> type[Kind]:
    """Add the fields of every source to a class, and let its `source` be any of their names.

    None of them decides an id: the images that a source gives do.

    Args:
        kind: The class with the other fields.

    Returns:
        The class with all of them, under the same name.
    """
    fields: dict[str, Any] = {"source": (Annotated[Literal[tuple(SOURCES)], NoEffect()], kind.model_fields["source"])}
    for source in SOURCES.values():
        for name, field in source.model_fields.items():
            fields[name] = (Annotated[field.annotation, NoEffect()], field)
    return create_model(kind.__name__, __base__=kind, __module__=kind.__module__, __doc__=kind.__doc__, **fields)


@_with_sources
class Data(WantedFormat, extra="forbid"):
    """Which images there are, how they are decoded, and how they are split."""

    source: str = Field(description="where the images come from")
    max_pixels: Count = Field(description="a larger image is not decoded, and counts as unreadable")
    validation_fraction: Fraction = Field(description="of the training images, to measure accuracy after each epoch")
    test_fraction: Fraction = Field(description="of the training images, if the source has no test images")
    max_unreadable: Annotated[int, Field(ge=0), NoEffect()] = Field(
        description="with more unreadable images than this the run fails"
    )
    near_copy: Annotated[float, Field(ge=0, le=255)] = Field(
        2.0, description="grey levels by which thumbnails of copies may differ, in the mean; 0: off"
    )
    group: str = Field("", description="a pattern; images whose path matches it with the same text stay in one split")
    labelled: Annotated[bool, NoEffect()] = Field(
        True, description="add the images that got their labels in review to the source, see docs/loop.md"
    )
    seed: Seed = Field(description="draws the splits")

    @field_validator("group")
    @classmethod
    def _is_a_pattern(cls, group: str) -> str:
        try:
            re.compile(group)
        except re.error as error:
            raise ValueError(f"is {group!r}, and no regular expression ({error})") from error
        return group

    @model_validator(mode="after")
    def _leaves_images_to_train(self) -> "Data":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction together must be less than 1")
        return self

    def chosen_source(self) -> Source | WithLabelled:
        """Return the source that `source` names, with its parameters, and with the images labelled in review."""
        kind = SOURCES[self.source]
        source = kind(**{name: getattr(self, name) for name in kind.model_fields})
        return WithLabelled(source) if self.labelled else source
