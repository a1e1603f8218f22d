"""What of the code decides a result: the modules that make it, found from their imports, and the libraries they use.

Reads source files and the versions of installed packages; writes nothing. Comments, docstrings, formatting and line
endings do not count, and the digest is the same under every version of Python that the project runs on.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from contract.paths import ROOT
from steps.common.code.source import Source, read_source
from steps.common.digest import digest

PACKAGES = ("contract", "serving", "steps")
# Modules that store, name, check and report what others compute. They decide no result, so a change of theirs makes
# nothing anew, and neither does what they import. Every module that is not listed counts. The parameters of a step are
# part of an id by their values, and the images of a source by their digest, so their modules are not.
PLUMBING = (
    "contract",
    "steps.common.cluster",
    "steps.common.code",
    "steps.common.digest",
    "steps.common.errors",
    "steps.common.files",
    "steps.common.images.stored",
    "steps.common.images.places",
    "steps.common.images.shards",
    "steps.common.lineage",
    "steps.common.locks",
    "steps.common.models.kept",
    "steps.common.pointer",
    "steps.common.progress",
    "steps.common.settled",
    "steps.common.store",
    "steps.common.usage",
    "steps.common.volumes",
    "steps.preprocess.sources",
    "steps.train.cluster",
)
# What travels in the model archive counts, wherever it is.
_ARCHIVED = ("contract.loop.collected",)
_PARAMETERS = "parameters"
# Libraries that check, fetch, lock, measure or send, and compute nothing that a result holds.
CARRIERS = {"filelock", "httpx", "kubernetes", "pooch", "prometheus_client", "psutil", "pydantic", "pydantic_settings"}
CARRIERS |= {"requests", "ts", "urllib3"}


@dataclass(frozen=True)
class Code:
    """What decides a result: a digest of the code, and the version of each library, by the name it is imported by."""

    digest: str
    libraries: dict[str, str]


@cache
def deciding_code(*modules: str, root: Path = ROOT) -> Code:
    """The code that decides what these modules compute.

    Args:
        modules: Their names. All that they import of this project counts too, at any depth and wherever in the code
            the import stands, but for `PLUMBING`; and every file of the project that a string in them names.
        root: The folder of the project.

    Returns:
        The digest, and the libraries' versions without local labels such as `+cpu`, so that builds of one version
        for different hardware are one.

    Raises:
        ValueError: There is no module of this name.
    """
    forms: dict[str, str] = {}
    names: set[str] = set()
    archived: set[str] = set()  # modules that others import by the names that they have in the archive
    for module in modules:
        if _file(root, module) is None:
            raise ValueError(f"{module} is no module of this project: name one of those in {', '.join(PACKAGES)}")
    waiting = [file for module in modules if (file := _file(root, module))]
    while waiting:
        file = waiting.pop()
        path = file.relative_to(root).as_posix()
        if path in forms:
            continue
        if file.suffix != ".py":
            forms[path] = _plain(file)
            continue
        source = read_source(file)
        forms[path] = source.form
        for name in _imported(source, root, path):
            if name.partition(".")[0] in PACKAGES:
                found = _file(root, name)
                waiting += [found] if found and not _is_plumbing(name) else []
            elif (beside := file.parent / f"{name}.py").is_file():  # in an archive all modules lie side by side
                waiting.append(beside)
            else:
                names.add(name.partition(".")[0])
        named = list(_named_files(source, root, file))
        waiting += named
        archived |= {each.stem for each in named}
    # Python runs the packages around a module too. What they import for others is not what this module uses.
    around = {parent / "__init__.py" for path in forms for parent in Path(path).parents}
    for init in around:
        if (root / init).is_file():
            forms.setdefault(init.as_posix(), read_source(root / init).form)
    versions = {name: _version(name) for name in sorted(names - archived - sys.stdlib_module_names - CARRIERS)}
    return Code(digest(forms), {name: version for name, version in versions.items() if version})


def _file(root: Path, module: str) -> Path | None:
    """Where a module of the project is."""
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_plumbing(module: str) -> bool:
    is_listed = any(module == name or module.startswith(f"{name}.") for name in PLUMBING) and module not in _ARCHIVED
    return is_listed or module.rpartition(".")[2] == _PARAMETERS


def _imported(source: Source, root: Path, path: str) -> Iterator[str]:
    """The modules that a module imports, by their absolute names."""
    for level, module, names in source.imports:
        if not names:
            yield module
            continue
        package = list(Path(path).parent.parts)[: -(level - 1) or None] if level else []
        base = ".".join([*package, *([module] if module else [])])
        for name in names:
            yield whole if _file(root, whole := f"{base}.{name}") else base


def _named_files(source: Source, root: Path, file: Path) -> Iterator[Path]:
    """The project's files that a module's strings name: from the project's folder, or beside the module."""
    for text in source.strings:
        path = Path(text)
        if path.is_absolute() or ".." in path.parts:
            continue
        places = [file.parent / path, *([root / path] if path.parts[:1] and path.parts[0] in PACKAGES else [])]
        for place in places:
            module = ".".join(place.relative_to(root).with_suffix("").parts)
            if place.is_file() and place != file and not _is_plumbing(module):
                yield place


def _plain(file: Path) -> str:
    """A file that is no module: text without its lines of comments, where it is YAML, and with plain line endings."""
    data = file.read_bytes()
    if b"\0" in data:
        return digest(data.hex())
    lines = data.decode(errors="surrogateescape").splitlines()
    if file.suffix in (".yaml", ".yml"):
        lines = [line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return digest(lines)


@cache
def _version(name: str) -> str | None:
    """The version of the installed package that is imported by this name; None if there is none."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        # Its name is another. To look into the lists of files is ten times faster than `packages_distributions`; first
        # into those that are named likewise, such as faiss-cpu's.
        lists = [path for folder in sys.path for path in Path(folder).glob("*.dist-info/RECORD")]
        lists.sort(key=lambda path: name not in path.parent.name)
        holders = (path for path in lists if f"\n{name}/__init__.py,".encode() in b"\n" + path.read_bytes())
        holder = next(holders, None)
        if holder is None:
            return None
        version = metadata.Distribution.at(holder.parent).version
    return version.partition("+")[0]
