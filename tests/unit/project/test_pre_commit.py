"""Pre-commit runs `make lint` and nothing else, with the installed packages."""

import yaml

from contract.paths import ROOT


def test_the_only_hook_is_make_lint() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"], hook["entry"]) == ("local", "system", "make lint")
    assert hook["always_run"] is True
    assert hook["pass_filenames"] is False
