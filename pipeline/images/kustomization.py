"""Writes the images of this revision, and the names that project.yaml chooses, into the kustomizations of `infra`."""

import re
from collections.abc import Iterator
from pathlib import Path

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.settings import Project, SettingsError

# Each kustomization with images, and the names of these in its manifests.
KUSTOMIZATIONS = {
    "infra/torchserve/kustomization.yaml": ("serving", "preprocess"),
    "infra/torchserve/rollback/kustomization.yaml": ("deploy",),
    "infra/gc/kustomization.yaml": ("deploy",),
}
_VOLUMES = "infra/pv-pvc/kustomization.yaml"
_SERVING_CLAIM = "serving-model-pvc"  # of serving in its own namespace, after the prefix
_COLLECT_CLAIM = "collect-pvc"  # of the images that serving keeps, after the prefix


def pin(project: Project, root: Path = ROOT) -> list[Path]:
    """Write the name and tag of each image, and the names that the prefix changes, into the kustomizations.

    In the template's copies, where the name has a variable, only the tag is written.

    Args:
        project: The project, which names the images.
        root: The root of the repository.

    Returns:
        The files that changed.

    Raises:
        SettingsError: A kustomization has no entry for its image, or none for the prefix.
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
    for file, names in KUSTOMIZATIONS.items():
        for path in (root / file, *sorted(root.glob(f"{{{{*}}}}/{file}"))):
            new = text = path.read_text(encoding="utf-8")
            for name in names:
                repository, _, tag = images[name].rpartition(":")
                new = _with_value(new, name, "newTag", f'"{tag}"', path)
                new = _with_value(new, name, "newName", repository, path) if path == root / file else new
            if path == root / file:
                new = _with_prefix(_with_names(new, project), project.kubeflow.name_prefix, path)
            yield path, text, new
    path = root / _VOLUMES
    text = path.read_text(encoding="utf-8")
    yield path, text, _with_names(text, project)


def _with_names(text: str, project: Project) -> str:
    """The text with the names of claims, account and Deployment, where it has them."""
    kubeflow = project.kubeflow
    claims = {f"{volume}-claim": claim for volume, claim in kubeflow.claims.items()}
    of_serving = f"{kubeflow.name_prefix}{_SERVING_CLAIM}"
    names = {**claims, "serving-claim": of_serving, "collect-claim": f"{kubeflow.name_prefix}{_COLLECT_CLAIM}"}
    names |= {"account": kubeflow.account, "serving": kubeflow.serving}
    for key, value in names.items():
        text = re.sub(rf"(?m)^(      - {key}=)\S*", rf"\g<1>{value}", text)
    own = re.search(rf"(?m)^      - claim=\S*{_SERVING_CLAIM}\b", text)  # serving has its own namespace
    text = re.sub(r"(?m)^(      - claim=)\S*", rf"\g<1>{of_serving if own else claims['deploy-model-claim']}", text)
    return text


def _with_prefix(text: str, prefix: str, path: Path) -> str:
    """The text with the prefix of all names that kustomize makes."""
    text, count = re.subn(r"(?m)^(namePrefix: )\S*", rf'\g<1>"{prefix}"', text)
    if prefix and not count:
        raise SettingsError(f'{path}: has no namePrefix for kubeflow.name_prefix: put namePrefix: "" below namespace')
    return text


def _with_value(text: str, image: str, key: str, value: str, path: Path) -> str:
    """The text with a new value for one key of an image's entry; comments stay."""
    entry = rf"(?m)(^  - name: {image}(?: *#.*)?\n(?:    .*\n)*?    {key}: )\S.*?(?=(?: *#.*)?$)"
    written, count = re.subn(entry, lambda found: found[1] + value, text)
    if count != 1:
        raise SettingsError(f"{path}: has no images entry '- name: {image}' with {key} below it: put it back")
    return written
