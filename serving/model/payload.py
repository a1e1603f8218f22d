"""Parses requests into image files: a plain body, the form field `data`, or JSON `{"instances": [{"b64": ...}]}`.

Part of the model archive; standard library only. Memory and time are bounded by the size of the request.
"""

import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

POLARITIES = ("dark-on-light", "light-on-dark")
FIELD = "data"
_KEYS = {"instances", "polarity"}
_INSTANCE_KEYS = {"b64", "polarity"}
# The most brackets and commas that the JSON of one instance needs.
_STRUCTURE = 8
_SHOWN = 40


# The bytes of an image file, and the polarity that the client stated.
File = tuple[bytes | bytearray, str | None]


class Rejected(ValueError):
    """An invalid request: `rule` names the broken rule, the message adds the value found and the remedy."""

    def __init__(self, rule: str, found: str) -> None:
        super().__init__(f"{rule}: {found}")
        self.rule = rule


class Request(NamedTuple):
    """A request: a body with its content type in lower case, or the fields of a form; and parameters."""

    body: bytes | bytearray = b""
    content_type: str = ""
    form: Mapping[str, bytes | bytearray] | None = None
    parameters: Mapping[str, str | bytes | bytearray] = {}


class Payload(NamedTuple):
    """The image files of a request; `many` if they are JSON instances, which are answered with `predictions`."""

    images: list[File]
    many: bool


def read(request: Request, max_instances: int) -> Payload:
    """Parse a request.

    Args:
        request: The request.
        max_instances: The most images in one request.

    Returns:
        Its image files, at least one, undecoded.

    Raises:
        Rejected: The request is invalid.
    """
    polarity = None
    for name, value in request.parameters.items():
        if name != "polarity":
            raise Rejected("unknown-parameter", f"there is no parameter {_shown(name)}; the only one is polarity.")
        polarity = _polarity(value)
    if request.form is not None:
        return Payload([_of_form(request.form, polarity)], many=False)
    kind = request.content_type
    if not kind or kind.startswith("image/") or kind in ("application/octet-stream", "binary/octet-stream"):
        return Payload([(request.body, polarity)], many=False)
    if kind == "application/json":
        return Payload(_of_json(request.body, polarity, max_instances), many=True)
    raise Rejected(
        "wrong-type",
        f"the content type is {_shown(kind)}; send an image file's bytes as image/png for example or with no type, as "
        f"curl -T does, a form as multipart/form-data, or JSON as application/json.",
    )


def _of_form(form: Mapping[str, bytes | bytearray], polarity: str | None) -> File:
    others = [name for name in form if name not in (FIELD, "polarity")]
    if others:
        raise Rejected("wrong-form", f"there is no field {_shown(others[0])}; send an image file as the field {FIELD}.")
    if FIELD not in form:
        raise Rejected("wrong-form", f"the form has no field {FIELD} that could be read; send an image file in it.")
    return form[FIELD], _polarity(form["polarity"]) if "polarity" in form else polarity


def _of_json(body: bytes | bytearray, polarity: str | None, max_instances: int) -> list[File]:
    # A parsed value takes many times its bytes, and brackets nest. Base64 contains none of these characters.
    if sum(map(body.count, (b"[", b"{", b","))) > _STRUCTURE * (max_instances + 1):
        raise Rejected(
            "too-many-instances",
            f"more brackets and commas than {max_instances} instances need, which is the most; send several requests, "
            'each only {"instances": [{"b64": ...}]}.',
        )
    try:
        document = _JSON.decode(str(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise Rejected("not-json", f"the body is no JSON in UTF-8 ({error}); send one object.") from None
    _check_keys(document, _KEYS, "the body")
    instances = document.get("instances")
    if not isinstance(instances, list) or not instances:
        raise Rejected("wrong-json", f"instances is {_shown(instances)}; it must be a list of images, not empty.")
    if len(instances) > max_instances:
        raise Rejected("too-many-instances", f"{len(instances)} are more than {max_instances}; send several requests.")
    if "polarity" in document:
        polarity = _polarity(document["polarity"])
    images: list[File] = []
    for number, instance in enumerate(instances):
        where = f"instance {number}"
        _check_keys(instance, _INSTANCE_KEYS, where)
        own = _polarity(instance["polarity"], f"of {where} ") if "polarity" in instance else polarity
        images.append((_bytes_of(instance.get("b64"), where), own))
    return images


def _bytes_of(text: Any, where: str) -> bytes:
    if not isinstance(text, str):
        raise Rejected("wrong-json", f"b64 of {where} is {_shown(text)}; it must be an image file's bytes in base64.")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise Rejected(
            "not-base64",
            f"b64 of {where} starts {_shown(text)} ({error}); send standard base64, padded and in one line.",
        ) from None


def _check_keys(value: Any, known: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise Rejected("wrong-json", f"{where} is {_shown(value)}; it must be an object.")
    for key in value:
        if key not in known:
            raise Rejected("wrong-json", f"{where} has a key {_shown(key)}; known are {', '.join(sorted(known))}.")


def _polarity(value: Any, where: str = "") -> str:
    # Bytes or text from a query, a form or a header; any type from JSON.
    text = value.decode("latin-1") if isinstance(value, bytes | bytearray) else value
    if text not in POLARITIES:
        raise Rejected("wrong-polarity", f"polarity {where}is {_shown(text)}; it must be {' or '.join(POLARITIES)}.")
    return str(text)


def _shown(value: Any) -> str:
    """A short form of any value, for an error message."""
    if isinstance(value, str):
        return json.dumps(value[:_SHOWN]) + ("..." if len(value) > _SHOWN else "")
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)
    return {dict: "an object", list: "a list", int: "a number"}.get(type(value), "something else")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has a key twice")
    return made


_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)
