"""The parameters of validate: the section `validate` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from steps.common.parameters import Count, Parameters, Share


class Validate(Parameters):
    """The limits that a dataset must keep."""

    min_images_per_class: Count = Field(description="in the training split")
    max_class_ratio: Annotated[float, Field(ge=1)] = Field(
        description="largest to smallest class of the training split"
    )
    max_duplicate_fraction: Share = Field(description="of the images of a split")
