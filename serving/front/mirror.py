"""What a mirror adds to nginx.conf, while requests are copied to another version; serving/front/mirror.conf is part."""

import re
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ProjectError
from serving.front.configuration import fill_in

TEMPLATE = Path(__file__).with_name("mirror.conf")
_VERSION = re.compile(r"[A-Za-z0-9._-]+")
LOG = "copies.log"
FLAG = "copying"  # copies are made while this file exists


@dataclass(frozen=True)
class Mirror:
    """The version that gets copies, and of which share of the requests.

    Attributes:
        version: The version, part of TorchServe's path.
        share: From 0.0001 to 1.
    """

    version: str
    share: float

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise ProjectError(f"the version is {self.version!r}, which cannot be part of a path")

    def lines(self, name: str, torchserve: str, folder: str) -> dict[str, str]:
        """The lines for each word between @ signs.

        Args:
            name: The model's name.
            torchserve: Where TorchServe listens, as nginx.conf has it.
            folder: nginx's folder, as nginx.conf has it.

        Returns:
            The lines.
        """
        share = f"{100 * self.share:.2f}"
        return {
            "MIRROR": "mirror /_copy;",
            "COPIES": fill_in({"SHARE": share, "TORCHSERVE": torchserve}, TEMPLATE),
            "COPY": (
                "location = /_copy { internal; access_log off; error_page 429 502 503 504 = /_copied;"
                " limit_req zone=copied burst=10 nodelay;"
                " if ($is_copied = 0) { return 204; }"
                f" if (!-f {folder}/{FLAG}) {{ return 204; }}"
                " proxy_set_header X-Request-Id $id; proxy_set_header Host copies;"
                f" proxy_read_timeout 1ms; proxy_pass http://copies/predictions/{name}/{self.version}; }}"
                " location = /_copied { internal; return 204; }"
            ),
            "COPIES_IDLE": f"location = /copies {{ limit_conn copies 1; alias {folder}/nginx.pid; }}",
            "COPIES_TO": f" {self}",
        }

    def __str__(self) -> str:
        return f"{self.version} {self.share}"
