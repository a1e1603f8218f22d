"""Writes the images of this revision into the kustomizations of `infra/torchserve`, which name them by their digest."""

import re
from pathlib import Path

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.settings import Project, SettingsError

# By the name that the manifests give each image.
KUSTOMIZATIONS = {
    "serving": "infra/torchserve/kustomization.yaml",
    "deploy": "infra/torchserve/rollback/kustomization.yaml",
}


def pin(project: Project, root: Path = ROOT) -> list[Path]:
    """Write each image's reference where a kustomization names it; gives the files that changed.

    In a template's folder, which has the project's name as a variable, only the tag is written. SettingsError if a
    kustomization does not name its image.
    """
    images, changed = references(project), []
    for name, file in KUSTOMIZATIONS.items():
        repository, _, tag = images[name].rpartition(":")
        for path in (root / file, *sorted(root.glob(f"{{{{*}}}}/{file}"))):
            text = path.read_text(encoding="utf-8")
            pinned = _pinned(text, name, "newTag", f'"{tag}"', path)
            if path == root / file:
                pinned = _pinned(pinned, name, "newName", repository, path)
            if pinned != text:
                path.write_text(pinned, encoding="utf-8")
                changed.append(path)
    return changed


def _pinned(text: str, image: str, key: str, value: str, path: Path) -> str:
    """The text with another value of a key in the entry of an image; comments stay."""
    entry = rf"(?m)(^  - name: {image}(?: *#.*)?\n(?:    .*\n)*?    {key}: )\S.*?(?=(?: *#.*)?$)"
    written, count = re.subn(entry, lambda found: found[1] + value, text)
    if count != 1:
        raise SettingsError(f"{path}: has no images entry '- name: {image}' with {key} below it: put it back")
    return written
