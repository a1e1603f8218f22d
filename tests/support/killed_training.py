"""Kills a training right after its first checkpoint."""

import json
import signal
import subprocess
import sys
from typing import Any

from contract.paths import ROOT

_SCRIPT = """
import json, os, signal, sys
from steps.train import fit
from steps.train.train import train
save = fit._save_checkpoint
def save_and_die(*args):
    save(*args)
    os.kill(os.getpid(), signal.SIGKILL)
fit._save_checkpoint = save_and_die
train(**json.loads(sys.argv[1]))
"""


def train_and_kill(train_split: str, validation_split: str, parameters: dict[str, Any], weights: str = "") -> None:
    """Start `train` with these arguments, in a process of its own that dies once the checkpoint is written."""
    given = {"train_split": train_split, "validation_split": validation_split, "weights": weights}
    text = json.dumps({**given, "parameters": parameters})
    done = subprocess.run([sys.executable, "-c", _SCRIPT, text], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
