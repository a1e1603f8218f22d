"""The parameters of analyse: the sections `gate` and `analyse` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from steps.common.parameters import Count, Fraction, Parameters, Share


class Gate(Parameters):
    """What a model must reach to be deployed."""

    baseline: Share = Field(description="a model that is not more accurate than this is rejected")
    worst_class_floor: Share = Field(description="a model whose worst class is below this is rejected")


class Analyse(Parameters):
    """What analyse keeps of the test split, and when an image is unknown."""

    golden: Count = Field(description="test images whose answers the served model must repeat")
    mistakes: Annotated[int, Field(ge=0)] = Field(description="in the report, the worst first")
    unknown_quantile: Fraction = Field(
        description="this share of the validation images is near enough to the gallery to get a label"
    )
