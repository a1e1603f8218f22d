"""Each example in docs/clients.md, run against a real TorchServe; only the port is replaced."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from contract.paths import ROOT
from serving.log import Log
from serving.server import Server
from tests.support.model_archive import CLASSES, archive, write_model

PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS, NAME = "127.0.0.1:8080", "my-project"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    mar = archive(write_model(tmp_path_factory.mktemp("model")), tmp_path_factory.mktemp("store") / "model.mar")
    with Server(mar, NAME, log=Log(tmp_path_factory.mktemp("log") / "torchserve.log")) as running:
        yield running


def test_there_are_examples_of_each_format_in_both_languages() -> None:
    of = {kind: "\n".join(code for each, code in EXAMPLES if each == kind) for kind in ("sh", "python")}
    for words in (
        ("-T samples", "-F data=@", "b64", "X-Polarity", "polarity="),
        ("urllib", "files=", "b64", "polarity"),
    ):
        code = of["sh" if "-T samples" in words else "python"]
        assert [word for word in words if word not in code] == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("kind", "code"), EXAMPLES, ids=lambda value: value if len(value) < 8 else "")
def test_the_example_prints_the_right_labels(server: Server, kind: str, code: str) -> None:
    assert ADDRESS in code
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error", "-c"]}[kind]
    code = code.replace(ADDRESS, f"127.0.0.1:{server.port}")
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    done = subprocess.run([*command, code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    said = json.loads(done.stdout) if kind == "sh" else done.stdout.strip()
    if "not base64" in code:
        assert said["error"]["message"].startswith("not-base64: b64 of instance 0 starts")
        return
    if isinstance(said, str) and said.startswith(("[", "{")):
        said = ast.literal_eval(said)
    found = said.get("predictions", [said]) if isinstance(said, dict) else said if isinstance(said, list) else [said]
    labels = [each["label"] if isinstance(each, dict) else each for each in found]
    assert len(labels) == (len(list(ROOT.glob("samples/*.png"))) if "glob" in code else 2 if "samples/3" in code else 1)
    assert set(labels) <= {*CLASSES, "unknown"}
