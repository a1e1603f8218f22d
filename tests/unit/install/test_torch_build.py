"""Which build of torch is taken: as pip finds it by the user's settings, by the index of the CPU builds, or nowhere."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from steps import torch_build
from tests.support.package_index import WHEEL, index, page, write_wheel

CUDA = "torch==2.13.0 --hash=sha256:00\n"


@pytest.fixture
def ordinary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The user's index, which has no CPU build, and is all that pip was told of; what it answers."""
    answers = {"/torch/": page("torch-2.13.0-py3-none-any.whl")}
    for name in [name for name in torch_build.os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(torch_build.sys, "platform", "linux")
    monkeypatch.setattr(torch_build, "FOLDER", tmp_path)
    (tmp_path / "torch-cuda.txt").write_text(CUDA)
    with index(answers) as url:
        monkeypatch.setenv("PIP_INDEX_URL", url)
        yield answers


def cpu_index(folder: Path, url: str) -> None:
    """What torch.txt says, with this index."""
    torch = 'torch==2.13.0+cpu ; sys_platform == "linux"\ntorch==2.13.0 ; sys_platform != "linux"\n'
    (folder / "torch.txt").write_text(f"--extra-index-url {url}\n{torch}")


def test_the_lock_is_read_as_it_is_written() -> None:
    url, own, ordinary = torch_build.read_lock((torch_build.FOLDER / "torch.txt").read_text())
    assert url.startswith("https://")
    assert own == f"{ordinary}+cpu"
    assert f"{ordinary} \\\n" in (torch_build.FOLDER / "torch-cuda.txt").read_text()


@pytest.mark.usefixtures("ordinary")
def test_the_cpu_build_comes_from_its_index(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "wheels").read_bytes()
    with index({"/torch/": page(WHEEL), f"/files/{WHEEL.replace('+', '%2B')}": wheel}) as url:
        cpu_index(tmp_path, url)
        assert torch_build.choose("cpu") == (f"--extra-index-url={url}\ntorch==2.13.0+cpu", "")


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({}, id="forbidden"),
        pytest.param(
            {"/torch/": page("torch-2.12.0+cpu-py3-none-any.whl")}, id="other versions alone", marks=pytest.mark.slow
        ),
        pytest.param({"/torch/": page(WHEEL)}, id="a page without its files", marks=pytest.mark.slow),
    ],
)
def test_an_index_without_the_file_gives_the_ordinary_build(tmp_path: Path, answers: dict[str, bytes]) -> None:
    with index(answers) as url:
        cpu_index(tmp_path, url)
        requirements, sentence = torch_build.choose("cpu")
    assert requirements == CUDA
    assert sentence == (
        f"torch==2.13.0+cpu is not to be had from {url}, so the ordinary build, torch==2.13.0, is taken: "
        "it is some 3 GB, and works without a GPU"
    )


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize(
    "answers", [pytest.param(True, id="hangs", marks=pytest.mark.slow), pytest.param(False, id="refuses")]
)
def test_an_index_that_does_not_answer_gives_the_ordinary_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    assert torch_build.SECONDS < 15
    monkeypatch.setattr(torch_build, "SECONDS", 4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        if not answers:
            server.close()
        cpu_index(tmp_path, f"http://127.0.0.1:{server.getsockname()[1] if answers else 9}")
        requirements, sentence = torch_build.choose("cpu")
    assert requirements == CUDA
    assert "the ordinary build" in sentence


@pytest.mark.usefixtures("ordinary")
def test_a_local_wheel_is_taken_and_no_other_index_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        cpu_index(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}")
        assert torch_build.choose("cpu") == ("torch==2.13.0+cpu", "")
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_mirror_that_has_both_is_enough(tmp_path: Path, ordinary: dict[str, bytes]) -> None:
    ordinary["/torch/"] = page("torch-2.13.0-py3-none-any.whl", WHEEL)
    ordinary[f"/files/{WHEEL.replace('+', '%2B')}"] = write_wheel(tmp_path / "wheels").read_bytes()
    cpu_index(tmp_path, "http://127.0.0.1:9")
    assert torch_build.choose("cpu") == ("torch==2.13.0+cpu", "")


def test_cuda_and_macos_ask_no_index(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch_build, "to_be_had", None)
    monkeypatch.setattr(torch_build.sys, "platform", "linux")
    assert torch_build.main(["cuda"]) == 0
    assert capsys.readouterr().out.startswith((torch_build.FOLDER / "torch-cuda.txt").read_text())
    monkeypatch.setattr(torch_build.sys, "platform", "darwin")
    assert torch_build.choose("cpu") == ("torch==2.13.0", "")
    assert torch_build.main(["rocm"]) == 2
    assert capsys.readouterr().err == "TORCH: is 'rocm'; it must be cpu or cuda\n"
