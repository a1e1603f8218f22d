"""Which build of torch pip can have: `python steps/torch_build.py cpu` prints requirements for `pip install --no-deps`.

Reads torch.txt beside it and the indexes; `make install` and the images' builds run it with the Python that gets torch.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Timer

FOLDER = Path(__file__).resolve().parent
SECONDS = 12  # in all, for indexes that do not answer
BUILDS = ("cpu", "cuda")
# pip's words once it has the file, or the head of the answer to it.
_HAS = re.compile(r"\s*(Downloading|Using cached|Processing) \S*torch-\S+\.whl\b")
_TRY = ("install", "--dry-run", "--no-cache-dir", "--ignore-installed", "--no-deps", "--retries=0", "--timeout=5")


def read_lock(text: str) -> tuple[str, str, str]:
    """Of torch.txt: the index of the CPU builds, and torch's requirements with and without a CPU build of its own."""
    index = re.findall(r"^--extra-index-url (\S+)", text, re.MULTILINE)
    own = re.findall(r"^(torch==\S+\+cpu)(?=\s)", text, re.MULTILINE)
    ordinary = re.findall(r"^(torch==[^\s+]+)(?=\s)", text, re.MULTILINE)
    return index[0], own[0], ordinary[0]


def choose(build: str) -> tuple[str, str]:
    """The requirements, and a sentence if they are not what was asked for."""
    index, own, ordinary = read_lock((FOLDER / "torch.txt").read_text(encoding="utf-8"))
    if sys.platform != "linux":
        return ordinary, ""
    if build == "cpu":
        end = time.monotonic() + SECONDS
        # The user's settings alone come first: a mirror, or a local wheel.
        for words in ([own], [f"--extra-index-url={index}", own]):
            if to_be_had(words, end - time.monotonic()):
                return "\n".join(words), ""
    sentence = (
        f"{own} is not to be had from {index}, so the ordinary build, {ordinary}, is taken: "
        "it is some 3 GB, and works without a GPU"
    )
    return (FOLDER / "torch-cuda.txt").read_text(encoding="utf-8"), sentence if build == "cpu" else ""


def to_be_had(words: list[str], seconds: float) -> bool:
    """Whether pip, with all its settings, finds these requirements and can begin to read the file."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "pip", *_TRY, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PIP_NO_INPUT": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": folder},
        )
        timer = Timer(max(seconds, 0), process.kill)
        timer.start()
        try:
            return any(_HAS.match(line) for line in process.stdout or ()) or process.wait() == 0
        finally:
            timer.cancel()
            process.kill()
            process.wait()


def main(words: list[str]) -> int:
    """Print the requirements; the sentence goes to stderr."""
    if len(words) != 1 or words[0] not in BUILDS:
        print(f"TORCH: is {' '.join(words)!r}; it must be {' or '.join(BUILDS)}", file=sys.stderr)
        return 2
    chosen, sentence = choose(words[0])
    if sentence:
        print(sentence, file=sys.stderr)
    print(chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
