"""The engine is whatever answers: Docker, Podman, a stub; what is left to it; images for other processors."""

import json
import platform
import re
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from contract.paths import ROOT
from pipeline.images import registry as registries
from pipeline.images.build import build_images, push_images, references
from pipeline.images.docker import Docker, DockerError, DockerMissingError, is_loopback
from pipeline.images.login import login
from pipeline.images.platforms import here, of_cluster
from pipeline.images.registry import Registry, RegistryError
from pipeline.images.tag import tag
from pipeline.settings import SettingsError, load_project
from tests.support.fake_engine import engine
from tests.support.named_files import repository_files
from tests.support.settings import PROJECT_FILE
from tests.support.web import LOGIN_PAGE, Asked, Said, Web

PROJECT = load_project(PROJECT_FILE)
LACKS_ALL = "echo 'no such manifest: x' >&2; exit 1"
STUB = "echo \"The command 'docker' could not be found in this WSL 2 distro.\"; exit 1"


@pytest.fixture(autouse=True)
def bin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the only programs that the tests find."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").symlink_to("/usr/bin/git")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    monkeypatch.setattr(
        "shutil.which", lambda name: str(tmp_path / "bin" / name) if (tmp_path / "bin" / name).exists() else None
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("PLATFORMS", "TORCH", "BASE_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "bin"


@pytest.fixture
def console() -> Console:
    return Console(file=StringIO())


def test_a_stub_is_no_engine(bin: Path) -> None:
    engine(bin, version=STUB)
    with pytest.raises(DockerMissingError, match=r"its engine does not answer \(The command 'docker' could not be"):
        Docker()


@pytest.mark.parametrize("text", ["", "no program"])
def test_what_is_no_program_is_no_engine(bin: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (bin / "docker").write_text(text)
    monkeypatch.setenv("PATH", str(bin))  # a real docker further on would be taken
    with pytest.raises(DockerMissingError, match="its engine does not answer"):
        Docker()


@pytest.mark.parametrize("docker", [None, STUB])
def test_podman_takes_the_place_of_a_docker_that_does_not_answer(
    bin: Path, console: Console, docker: str | None
) -> None:
    if docker:
        engine(bin, version=docker)
    asked = engine(bin, "podman", image=f"test -e {bin}/built && echo 9 || exit 1", build=f"touch {bin}/built")
    build_images(PROJECT, ["index"], console)
    built = next(line for line in asked.read_text().splitlines() if line.startswith("podman build "))
    assert "--format docker" in built
    assert "--progress" not in built


def test_podman_under_the_name_of_docker_is_podman(bin: Path) -> None:
    asked = engine(bin, __version="echo podman version 4.9.3")
    Docker().push("localhost:5000/x:1", lambda _: None)
    Docker().push("ghcr.io/x:1", lambda _: None)
    assert [line for line in asked.read_text().splitlines() if " push " in line] == [
        "docker push --tls-verify=false localhost:5000/x:1",
        "docker push ghcr.io/x:1",
    ]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:5000", True),
        ("localhost", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("127.example", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.fixture
def private() -> Callable[[], Web]:
    """A registry that only an engine's helper or token can enter."""
    return lambda: Web(lambda _: Said(401, "{}", {"WWW-Authenticate": 'Basic realm="x"'}))


CONFIGS = [
    {},
    {"credsStore": "not-installed"},
    {"credHelpers": {"*": "x"}, "auths": {}},
    {"auths": {"HOST": {"identitytoken": "hidden"}}},
    {"auths": {"HOST": {"auth": "bm90aGluZw=="}}},
    {"auths": []},
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: "-".join(config) or "none")
def test_helpers_and_tokens_are_left_to_the_engine(
    bin: Path, tmp_path: Path, private: Callable[[], Web], config: dict[str, object]
) -> None:
    with private() as web:
        (tmp_path / "config.json").write_text(json.dumps(config).replace("HOST", web.address))
        asked = engine(bin, manifest=f'case "$3" in *:there) echo "{{}}";; *) {LACKS_ALL};; esac')
        assert Registry(web.address).has(f"{web.address}/digits-train:there")
        assert not Registry(web.address).has(f"{web.address}/digits-train:absent")
    assert f"docker manifest inspect {web.address}/digits-train:there" in asked.read_text()


def test_a_registry_that_denies_the_engine_too_says_why(bin: Path, private: Callable[[], Web]) -> None:
    engine(bin, manifest="echo 'unauthorized: token expired' >&2; exit 1")
    with (
        private() as web,
        pytest.raises(RegistryError, match="denies access to .*token expired.*docker login 127.0.0.1"),
    ):
        Registry(web.address).has(f"{web.address}/digits-train:1")
    (bin / "docker").unlink()
    with private() as web, pytest.raises(RegistryError, match="denies access to .*status 401.*docker login 127.0.0.1"):
        Registry(web.address).has(f"{web.address}/digits-train:1")


@pytest.mark.parametrize(
    "info",
    [
        '{"IndexConfigs": {"HOST": {"Secure": false}}}',
        '{"IndexConfigs": {}, "InsecureRegistryCIDRs": ["10.0.0.0/8", "127.0.0.0/8"]}',
    ],
)
def test_plain_http_is_spoken_where_the_engine_is_told_so(
    bin: Path, monkeypatch: pytest.MonkeyPatch, info: str
) -> None:
    monkeypatch.setattr(registries, "is_loopback", lambda _: False)  # as of another name than localhost
    with Web(lambda _: Said()) as web:
        engine(bin, info="echo '{}'")
        with pytest.raises(RegistryError, match="must be among the engine's insecure registries"):
            Registry(web.address, retries=0).has(f"{web.address}/x:1")
        engine(bin, info=f"echo '{info.replace('HOST', web.address)}'")
        assert Registry(web.address, retries=0).has(f"{web.address}/x:1")
        engine(bin, "podman", info=f'echo \'{{"registries": {{"{web.address}": {{"Insecure": true}}}}}}\'')
        (bin / "docker").unlink()
        assert Registry(web.address, retries=0).has(f"{web.address}/x:1")


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_is_not_taken_for_a_registry(status: int) -> None:
    page = Said(status, LOGIN_PAGE, kind="text/html")
    with Web(lambda _: page) as web, pytest.raises(RegistryError, match="is not a registry: it answers with "):
        Registry(web.address).has(f"{web.address}/x:1")


def test_a_login_is_not_sent_in_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    challenge = {"WWW-Authenticate": 'Bearer realm="http://elsewhere.example/token?x=hidden"'}
    monkeypatch.setattr(registries.Registry, "_head", lambda *_: Web_answer(challenge))
    with pytest.raises(RegistryError, match="'http://elsewhere.example/token', which is not safe"):
        Registry("ghcr.example").has("ghcr.example/x:1")


class Web_answer:  # noqa: N801 - reads as a call
    status_code = 401

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


def test_a_password_is_stripped_and_not_shown(bin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine(bin, login=f'cat > {bin}/stdin; echo "bad password $(cat {bin}/stdin)" >&2; exit 1')
    monkeypatch.setenv("REGISTRY_USER", "me\n")
    monkeypatch.setenv("REGISTRY_PASSWORD", "hidden\n")
    with pytest.raises(DockerError, match=r"rejects the login of me: bad password \*\*\*$"):
        login(PROJECT)
    assert (bin / "stdin").read_text() == "hidden"


def test_a_tag_says_the_platform_where_it_is_not_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, ending in {
        "": "",
        "linux/amd64": "",
        "linux/arm64": "-arm64",
        " linux/arm64, linux/amd64,": "-amd64-arm64",
    }.items():
        monkeypatch.setenv("PLATFORMS", given)
        assert references(PROJECT)["train"].endswith(f":{tag('train')}{ending}")
    monkeypatch.setenv("PLATFORMS", "linux/s390x")
    with pytest.raises(
        SettingsError, match="PLATFORMS: has 'linux/s390x'; it must be a list of linux/amd64, linux/arm64"
    ):
        references(PROJECT)


def test_the_project_names_the_platforms_of_its_cluster(tmp_path: Path) -> None:
    content = yaml.safe_load(PROJECT_FILE.read_text())
    content["kubeflow"]["platforms"] = ["linux/arm64"]
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(content))
    assert of_cluster(load_project(tmp_path / "project.yaml")) == ("linux/arm64",)


@pytest.mark.parametrize(("machine", "expected"), [("x86_64", "amd64"), ("arm64", "arm64"), ("aarch64", "arm64")])
def test_images_for_this_machine_are_of_its_platform(
    bin: Path, console: Console, monkeypatch: pytest.MonkeyPatch, machine: str, expected: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert here() == (f"linux/{expected}",)
    asked = engine(bin, image=f"test -e {bin}/built && echo 9 || exit 1", build=f"touch {bin}/built", buildx="exit 1")
    build_images(PROJECT, ["index"], console)
    (built,) = [line for line in asked.read_text().splitlines() if " build " in line]
    assert "--platform" not in built
    assert f"-index:{tag('index')}{'-arm64' if expected == 'arm64' else ''} " in built


def test_a_push_for_another_platform_than_this_is_built_for_it(
    bin: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    asked = engine(bin, image="exit 1", build="true", buildx="exit 1")
    with Web(lambda _: Said(404)) as web:
        push_images(PROJECT.model_copy(update={"registry": web.address}), ["index"], console)
    (built,) = [line for line in asked.read_text().splitlines() if " build " in line]
    assert "--platform linux/amd64 " in built
    assert f"docker push {web.address}/continuous-training-index:{tag('index')}\n" in asked.read_text()


def test_several_platforms_are_one_list_by_buildx(bin: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORMS", "linux/amd64,linux/arm64")
    asked = engine(bin)

    def answer(request: Asked) -> Said:
        return Said(200 if "-index/" in request.target else 404)

    with Web(answer) as web:
        done = push_images(PROJECT.model_copy(update={"registry": web.address}), ["deploy", "index"], console)
    builds = [line for line in asked.read_text().splitlines() if line.startswith("docker buildx build ")]
    targets = [re.search(r"--target (\w+)", line) for line in builds]
    assert [target[1] for target in targets if target] == ["serving", "deploy"]  # what deploy is built on comes first
    assert all("--push --platform linux/amd64,linux/arm64 " in line for line in builds)
    names = references(PROJECT.model_copy(update={"registry": web.address}))
    assert names["deploy"].endswith("-amd64-arm64")
    assert f"--build-arg SERVING_IMAGE={names['serving']} " in builds[1]
    assert done.table().row_count == 3
    assert not [line for line in asked.read_text().splitlines() if line.startswith(("docker push", "docker build "))]


def test_several_platforms_need_buildx(bin: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORMS", "linux/amd64,linux/arm64")
    engine(bin, buildx="exit 1")
    with (
        Web(lambda _: Said(404)) as web,
        pytest.raises(DockerError, match="buildx and a builder for them: docker buildx"),
    ):
        push_images(PROJECT.model_copy(update={"registry": web.address}), ["index"], console)


def test_a_checkout_under_core_autocrlf_has_plain_line_endings(tmp_path: Path) -> None:
    """It is the default of Git for Windows; other bytes are other tags, and no shell reads such a script."""
    for name in repository_files(ROOT):
        copy = tmp_path / "repository" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for words in (
        ["-C", "repository", "init", "-q"],
        ["-C", "repository", "add", "--all", "--force"],
        ["-C", "repository", *author, "commit", "-q", "-m", "all"],
        ["clone", "-q", "-c", "core.autocrlf=true", "repository", "clone"],
    ):
        subprocess.run(["/usr/bin/git", *words], cwd=tmp_path, check=True, capture_output=True)
    clone = tmp_path / "clone"
    texts = {path.relative_to(clone): path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    converted = [path for path, data in texts.items() if b"\0" not in data and b"\r\n" in data]
    assert (clone / "Makefile").is_file()
    assert [path for path in converted if path.parts[0] != ".git"] == []
