"""The parameters of gc: the section `gc` of `params.yaml`."""

from pydantic import Field

from steps.common.parameters import Count, Parameters


class Gc(Parameters):
    """What `make gc` keeps beside what the versions need. It changes no result."""

    keep_days: Count = Field(
        default=30, description="what a run of these last days used is kept; longer than any run takes"
    )
