"""The parameters of analyse: the sections `gate` and `analyse` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from steps.common.parameters import Count, Fraction, Parameters, Share


class Gate(Parameters):
    """What a model must reach to be deployed."""

    baseline: Share = Field(description="a model that is not more accurate than this is rejected")
    worst_class_floor: Share = Field(description="a model whose worst class is below this is rejected")
    max_unknown: Share = Field(
        0.05, description="a model that answers unknown to more than this share of known classes is rejected"
    )
    min_test_images: Count = Field(30, description="with fewer test images a model is rejected, or not compared")
    min_class_images: Count = Field(5, description="a class with fewer test images is untested")
    untested: Literal["allow", "reject"] = Field(
        "allow", description="what an untested class does to a model: allow, reject"
    )
    significance: Fraction = Field(0.05, description="of the paired test with the champion, one-sided each way")
    on_tie: Literal["fresher", "keep", "replace"] = Field(
        "fresher",
        description="an equal model replaces the champion: fresher (if it knows images that the champion never had), "
        "keep (never), replace (always)",
    )
    allow_lost_classes: list[str] = Field([], description="classes that may vanish or shrink")


class Analyse(Parameters):
    """What analyse keeps of the test split, and when an image is unknown."""

    golden: Count = Field(description="test images whose answers the served model must repeat")
    mistakes: Annotated[int, Field(ge=0)] = Field(description="in the report, the worst first")
    unknown_quantile: Fraction = Field(
        description="this share of the validation images is near enough to the gallery to get a label"
    )
