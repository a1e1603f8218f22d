"""Shared by the tests of submitting: a committed project, the environment of its commands, the logs of its steps."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.settings import load_params, load_project
from steps.registry import STEP_NAMES
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

# What the commands import that takes long to import.
IMPORTS = (
    *("pipeline.kubeflow.commands", "pipeline.kubeflow.doctor", "pipeline.kubeflow.schedule"),
    *("pipeline.images.registry", "httpcore", "rich.console", "tests.support.kfp_callers:ignore_callers"),
)
Run = Callable[..., subprocess.CompletedProcess[str]]
PROJECT, PARAMS = load_project(PROJECT_FILE), load_params(PARAMS_FILE)
VERDICT = {"accuracy": 0.97, "worst_label": "a|b", "worst_accuracy": 0.9, "better": True, "reason": "good enough"}
SAID: dict[str, Any] = {
    "analyse": {"id": "v1", "verdict": VERDICT, "classes": ["a|b", "c"], "confusion": [[9, 1], [0, 8]]},
    "deploy": {"version": "abc"},
}
GATED = {step: "SUCCEEDED" for step in STEP_NAMES if step != "deploy"}
DEPLOYED = [look("RUNNING", preprocess="RUNNING"), look("SUCCEEDED", **GATED, deploy="SUCCEEDED")]


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def log(step: str, event: str = "finished", **fields: Any) -> str:
    """The log of a step's pod, with lines of Kubeflow's launcher before and after."""
    content = {"event": event, "step": step, "made": "things", "unchanged": False, **SAID.get(step, {}), **fields}
    given = json.dumps({"inputs": {"parameterValues": {"name": "digits"}}}, indent=4)
    return (
        f"I0101 00:00:00.000000      16 main.go:67] Setting log level to: '1'\n"
        f"[KFP Executor 2026-01-01 00:00:00,000 INFO]: Got executor_input:\n{given}\n"
        f"event {json.dumps(content)}\n"
        f"I0101 00:00:01.000000      16 launcher_v2.go:206] publish success.\n"
    )


def environment(server: Server, **more: str) -> dict[str, str]:
    others = ("KFP_", "GITHUB_", "PYTHONPATH", "DOCKER_CONFIG")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    ours = {"KFP_HOST": f"http://{server.address}", "KFP_TOKEN": "right", "KUBECONFIG": os.devnull}
    return {**kept, **ours, **more}


def made(kfp: Kfp) -> list[int]:
    return [len(rows) for rows in (kfp.pipelines, kfp.versions, kfp.experiments, kfp.runs, kfp.recurring)]
