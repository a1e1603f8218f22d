"""The source `sample`: reads the digits in this repository."""

from pathlib import Path

from steps.common.digest import file_sha256
from steps.preprocess.sources.source import Parts, Source, array_part

SAMPLE = Path(__file__).parents[1] / "sample.npz"


class Sample(Source):
    """5,000 MNIST digits, in the repository."""

    def fingerprint(self) -> str:
        """The SHA-256 of the file."""
        return file_sha256(SAMPLE)

    def read(self) -> Parts:
        """Read the digits, as training images."""
        import numpy as np

        with np.load(SAMPLE) as file:
            return {"train": array_part("sample", file["images"], file["labels"])}
