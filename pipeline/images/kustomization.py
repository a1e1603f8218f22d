"""Writes the images of this revision, and the names that project.yaml chooses, into the kustomizations of `infra`."""

import re
from collections.abc import Iterator
from pathlib import Path

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.settings import Project, SettingsError

# Each kustomization with an image, and the name of the image in its manifests.
KUSTOMIZATIONS = {
    "infra/torchserve/kustomization.yaml": "serving",
    "infra/torchserve/rollback/kustomization.yaml": "deploy",
    "infra/gc/kustomization.yaml": "deploy",
}
_VOLUMES = "infra/pv-pvc/kustomization.yaml"
_SERVING_CLAIM = "serving-model-pvc"  # of serving in its own namespace: it needs no prefix


def pin(project: Project, root: Path = ROOT) -> list[Path]:
    """Write the name and tag of each image, and the names of claims and account, into the kustomizations.

    In the template's copies, where the name has a variable, only the tag is written.

    Args:
        project: The project, which names the images.
        root: The root of the repository.

    Returns:
        The files that changed.

    Raises:
        SettingsError: A kustomization has no entry for its image.
    """
    changed = [(path, new) for path, text, new in _files(project, root) if new != text]
    for path, new in changed:
        path.write_text(new, encoding="utf-8")
    return [path for path, _ in changed]


def stale(project: Project, root: Path = ROOT) -> list[Path]:
    """The files that `pin` would change."""
    return [path for path, text, new in _files(project, root) if new != text]


def _files(project: Project, root: Path) -> Iterator[tuple[Path, str, str]]:
    """Each file, its text, and its text with this revision's image and the project's names."""
    images = references(project)
    for file, name in KUSTOMIZATIONS.items():
        repository, _, tag = images[name].rpartition(":")
        for path in (root / file, *sorted(root.glob(f"{{{{*}}}}/{file}"))):
            text = path.read_text(encoding="utf-8")
            new = _with_value(text, name, "newTag", f'"{tag}"', path)
            if path == root / file:
                new = _with_names(_with_value(new, name, "newName", repository, path), project)
            yield path, text, new
    path = root / _VOLUMES
    text = path.read_text(encoding="utf-8")
    yield path, text, _with_names(text, project)


def _with_names(text: str, project: Project) -> str:
    """The text with the names of the claims and of the service account, where it has them."""
    claims = {f"{volume}-claim": claim for volume, claim in project.kubeflow.claims.items()}
    names = {**claims, "account": project.kubeflow.service_account, "claim": claims["deploy-model-claim"]}
    for key, value in names.items():
        text = re.sub(rf"(?m)^(      - {key}=)(?!{_SERVING_CLAIM})\S*", rf"\g<1>{value}", text)
    return text


def _with_value(text: str, image: str, key: str, value: str, path: Path) -> str:
    """The text with a new value for one key of an image's entry; comments stay."""
    entry = rf"(?m)(^  - name: {image}(?: *#.*)?\n(?:    .*\n)*?    {key}: )\S.*?(?=(?: *#.*)?$)"
    written, count = re.subn(entry, lambda found: found[1] + value, text)
    if count != 1:
        raise SettingsError(f"{path}: has no images entry '- name: {image}' with {key} below it: put it back")
    return written
