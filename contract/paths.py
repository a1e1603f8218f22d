"""Where the repository is, in a working tree and in an image alike."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
