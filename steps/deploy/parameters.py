"""The parameters of deploy: the section `deploy` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from steps.common.parameters import Count, Neighbours, NoEffect


class Deploy(Neighbours, extra="forbid"):
    """What the server accepts and answers, and how many archives are kept."""

    polarity: Literal["light-on-dark", "dark-on-light"] = Field(
        description="of the training images; an image that a client sends as the other one is inverted"
    )
    max_instances: Annotated[int, Field(ge=1, le=1000)] = Field(description="images in one request")
    max_pixels: Count = Field(20_000_000, description="pixels in one request, of all its images together")
    thumbnails: Annotated[int, Field(ge=0)] = Field(
        2_000_000, description="bytes at most of small gallery pictures in the archive, for a page; 0: none"
    )
    without_locks: Annotated[bool, NoEffect()] = Field(
        False, description="deploy even if the volume's file system has no locks to keep two runs apart"
    )
    keep: Annotated[Count, NoEffect()] = Field(description="archives in the model store; older ones move to backup/")
