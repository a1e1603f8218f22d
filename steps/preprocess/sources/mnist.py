"""The source `mnist`: fetches MNIST's four files to `<data volume>/downloads/`, once, and reads them."""

from typing import Annotated, ClassVar

from pydantic import Field

from steps.common.digest import digest
from steps.preprocess.sources.source import Parts, Source, array_part

# SHA-256 of the files as their authors published them.
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class Mnist(Source):
    """All of MNIST: 60,000 digits to train, 10,000 to test."""

    needs_network: ClassVar[bool] = True

    mnist_url: Annotated[str, Field(pattern=r"^https?://")] = Field(
        "https://ossci-datasets.s3.amazonaws.com/mnist/", description="where the source mnist is downloaded from"
    )

    def fingerprint(self) -> str:
        """The digest of the files' SHA-256s."""
        return digest(SHA256)

    def read(self) -> Parts:
        """Fetch what is not on the data volume, and read it.

        Returns:
            The parts `train` and `test`.

        Raises:
            StepError: A file cannot be fetched, or is another one than its authors published.
        """
        from steps.common.volumes import data_volume
        from steps.preprocess.sources.download import fetch, read_idx

        folder = data_volume() / "downloads"
        base = self.mnist_url.rstrip("/")
        remedy = f"name another mirror in data.mnist_url, or put the file into {folder}"
        files = {
            name: read_idx(fetch(f"{base}/{name}", folder / name, sha256, remedy)) for name, sha256 in SHA256.items()
        }
        return {
            part: array_part(prefix, files[f"{prefix}-images-idx3-ubyte.gz"], files[f"{prefix}-labels-idx1-ubyte.gz"])
            for part, prefix in (("train", "train"), ("test", "t10k"))
        }
