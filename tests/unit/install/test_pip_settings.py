"""pip's settings: read as pip reads them, and heeded by uv."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from install.pip_settings import environment, for_uv, parse, read
from tests.support.package_index import index, page, write_wheel

ALWAYS = {"UV_INDEX_STRATEGY", "UV_SYSTEM_CERTS"}


def told(**settings: str) -> dict[str, str] | None:
    made = for_uv({name.replace("_", "-"): value for name, value in settings.items()})
    return made and {name: value for name, value in made.items() if name not in ALWAYS}


def test_the_environment_counts_before_the_section_of_install_and_that_before_all() -> None:
    listing = (
        ":env:.index-url='http://c'\nglobal.index-url='http://a'\ninstall.index-url='http://b'\n"
        "global.extra-index-url='\\nhttp://x\\nhttp://y'\ninstall.find-links='b'\nglobal.find-links='a'\n"
        "download.cert='d'\nglobal.default-timeout='60'\n"
    )
    assert parse(listing) == {
        "index-url": "http://c",
        "extra-index-url": "http://x http://y",
        "find-links": "b",
        "timeout": "60",
    }


@pytest.mark.parametrize(
    ("setting", "variables"),
    [
        ({"index_url": "https://u:p@m/simple"}, {"UV_DEFAULT_INDEX": "https://u:p@m/simple"}),
        ({"extra_index_url": "http://x http://y"}, {"UV_EXTRA_INDEX_URL": "http://x http://y"}),
        ({"find_links": "/a /b"}, {"UV_FIND_LINKS": "/a,/b"}),
        ({"no_index": "true"}, {"UV_NO_INDEX": "1"}),
        ({"no_index": "false"}, {}),
        ({"cert": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"trusted_host": "a b"}, {"UV_INSECURE_HOST": "a b"}),
        ({"constraint": "/c.txt"}, {"UV_CONSTRAINT": "/c.txt"}),
        ({"cache_dir": "/c"}, {"UV_CACHE_DIR": "/c/uv"}),
        ({"proxy": "p:3128"}, dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://p:3128")),
        ({"user": "1", "require_virtualenv": "1", "quiet": "2", "config_file": "/p"}, {}),
    ],
)
def test_a_setting_has_a_form_for_uv(setting: dict[str, str], variables: dict[str, str]) -> None:
    assert told(**setting) == variables


@pytest.mark.parametrize("setting", [{"no_binary": ":all:"}, {"require_hashes": "1"}, {"cert": "/with space/ca.pem"}])
def test_what_uv_cannot_be_told_is_left_to_pip(setting: dict[str, str]) -> None:
    assert told(**setting) is None


def test_uv_asks_the_index_of_a_pip_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real: a file of pip's is read by this pip, and its index is asked by this uv."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    name = "torch-2.13.0+cpu-py3-none-any.whl"
    wheel = write_wheel(tmp_path / "wheels").read_bytes()
    with index({"/torch/": page(name), f"/files/{name.replace('+', '%2B')}": wheel}) as url:
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {url}\nrequire-virtualenv = yes\nuser = yes\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        settings = read(sys.executable)
        assert settings["index-url"] == url
        command = [Path(sys.executable).with_name("uv"), "pip", "install", "--python", sys.executable, "--dry-run"]
        command += ["--no-cache", "--reinstall", "--no-deps", "torch==2.13.0+cpu"]
        variables = {**environment(), **(for_uv(settings) or {})}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "torch==2.13.0+cpu" in done.stderr
