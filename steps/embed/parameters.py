"""The parameters of embed: the section `embed` of `params.yaml`."""

from steps.common.parameters import Batches


class Embed(Batches, extra="forbid"):
    """How the gallery is embedded."""
