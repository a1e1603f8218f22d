"""The parameters of drift: the section `drift` of `params.yaml`."""

from pydantic import Field

from steps.common.parameters import Count, Fraction, Parameters


class Drift(Parameters):
    """When what is served counts as another kind of images than those of test. It changes no result."""

    days: Count = Field(default=7, description="the images of these last days are compared")
    min_images: Count = Field(default=100, description="with fewer images nothing says more than watch")
    significance: Fraction = Field(
        default=0.01, description="chance of a false alarm in one comparison, over all of its tests together"
    )
    classes: bool = Field(
        default=True, description="compare the shares of the classes, too; false where traffic is known to have others"
    )
