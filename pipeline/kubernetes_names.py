"""The rules of Kubernetes for names and labels, as types for the settings. A broken rule is said in words."""

import re
from typing import Annotated

from pydantic import AfterValidator

_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_WORD = "[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_LONGEST = 63  # of a label, and of each part of a name
_LONGEST_NAME = 253


def _is_name(text: str) -> bool:
    """Whether a text is a DNS subdomain, as the names of most objects are."""
    parts = text.split(".")
    return len(text) <= _LONGEST_NAME and all(len(part) <= _LONGEST and re.fullmatch(_LABEL, part) for part in parts)


def _name(text: str) -> str:
    if not _is_name(text):
        raise ValueError(
            f"is {text!r}; it must be a name of Kubernetes: a-z, 0-9, - and ., with a letter or digit at both ends"
        )
    return text


def _namespace(text: str) -> str:
    if len(text) > _LONGEST or not re.fullmatch(_LABEL, text):
        raise ValueError(
            f"is {text!r}; it must be a namespace: at most 63 of a-z, 0-9 and -, with a letter or digit at both ends"
        )
    return text


def _label_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if len(name) > _LONGEST or not re.fullmatch(_WORD, name) or (slash and not _is_name(prefix)):
        raise ValueError(
            f"has the label {key!r}, which must be at most 63 letters, digits, -, _ and ., after a "
            "domain and / if it has one"
        )
    return key


def _label_value(value: str) -> str:
    if len(value) > _LONGEST or not re.fullmatch(f"({_WORD})?", value):
        raise ValueError(
            f"has {value!r}, which must be at most 63 letters, digits, -, _ and ., with a letter or digit at both ends"
        )
    return value


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        _label_key(key)
        try:
            _label_value(value)
        except ValueError as error:
            raise ValueError(f"has the label {key} with {str(error).removeprefix('has ')}") from None
    return labels


Name = Annotated[str, AfterValidator(_name)]
Namespace = Annotated[str, AfterValidator(_namespace)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
