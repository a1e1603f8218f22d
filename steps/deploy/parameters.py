"""The parameters of deploy: the sections `deploy` and `serving` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from contract.loop.collecting import Limits
from steps.common.parameters import Count, Neighbours, NoEffect, Parameters, Share


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


class Shadow(Parameters):
    """How a new version is shadowed, and when it may answer then; the pointer carries it to the server."""

    seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=0, description="for which a new version gets copies of the live requests before it answers any; 0: none"
    )
    share: Annotated[float, Field(ge=0.0001, le=1)] = Field(default=1.0, description="of the requests that are copied")
    min_requests: Count = Field(default=30, description="with fewer copies nothing is judged: the new version answers")
    max_errors: Share = Field(default=0.01, description="share of copies without an answer where the client got one")
    max_slower: Annotated[float, Field(ge=0)] = Field(
        default=0.05, description="seconds by which 95 % of the answers may come later than the old version's"
    )
    min_equal: Share = Field(default=0.9, description="share of copies with the labels that the old version answers")
    max_unknown: Share = Field(default=0.05, description="by which the share of images called unknown may rise")


class Collect(Parameters, Limits):
    """Whether a server keeps images that clients send, and which; `make serve` carries it to the server."""

    enabled: bool = Field(
        default=False, description="keep those called unknown or near a threshold, and a share of all others"
    )


class Serving(Parameters):
    """What a server does with a new version, and with what clients send. It changes no result."""

    shadow: Annotated[Shadow, NoEffect()] = Field(
        default=Shadow(), description="copies of live requests, which judge a new version before it answers any"
    )
    collect: Annotated[Collect, NoEffect()] = Field(
        default=Collect(), description="images that clients send, kept to be labelled; they may be personal"
    )
