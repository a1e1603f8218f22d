"""The parameters of index: the section `index` of `params.yaml`."""

from typing import Annotated

from pydantic import Field

from steps.common.parameters import Parameters


class Index(Parameters):
    """The kind of index."""

    factory: Annotated[str, Field(min_length=1)] = Field(
        description="a FAISS factory string, or auto: by the size of the gallery"
    )
