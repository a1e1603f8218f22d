"""Parsing of requests: each valid format gives image files, everything else an error with its rule and remedy."""

import base64
import json
import time
import tracemalloc
from typing import Any

import pytest

from serving.model.payload import Payload, Rejected, Request, read

MOST = 4
IMAGE = bytes(range(256)) * 3
B64 = base64.b64encode(IMAGE).decode()


def json_request(document: Any, **more: Any) -> Request:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Request(body, "application/json", **more)


def rejected(request: Request) -> str:
    with pytest.raises(Rejected) as error:
        read(request, MOST)
    assert str(error.value).startswith(f"{error.value.rule}: ")
    assert len(str(error.value)) < 300
    return str(error.value)


@pytest.mark.parametrize("kind", ["", "image/png", "image/jpeg", "image/x-what", "application/octet-stream"])
def test_a_plain_body_is_an_image(kind: str) -> None:
    assert read(Request(IMAGE, kind), MOST) == Payload([(IMAGE, None)], many=False)


@pytest.mark.parametrize("kind", ["text/plain", "application/pdf", "application/x-www-form-urlencoded", "x" * 9999])
def test_another_content_type_is_wrong_type(kind: str) -> None:
    assert rejected(Request(IMAGE, kind)).startswith("wrong-type: the content type is ")


def test_a_form_has_one_image_in_the_field_data() -> None:
    assert read(Request(form={"data": IMAGE}), MOST) == Payload([(IMAGE, None)], many=False)
    both = {"polarity": bytearray(b"dark-on-light"), "data": IMAGE}
    assert read(Request(form=both), MOST) == Payload([(IMAGE, "dark-on-light")], many=False)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "wrong-form: the form has no field data"),
        ({"polarity": b"dark-on-light"}, "wrong-form: the form has no field data"),
        ({"image": IMAGE}, 'wrong-form: there is no field "image"'),
        ({"data": IMAGE, "another": b""}, 'wrong-form: there is no field "another"'),
        ({"data": IMAGE, "polarity": b""}, 'wrong-polarity: polarity is ""; it must be dark-on-light or light-on-dark'),
    ],
)
def test_an_invalid_form_is_rejected(form: dict[str, bytes], message: str) -> None:
    assert rejected(Request(form=form)).startswith(message)


def test_json_has_many_images_in_their_order() -> None:
    files = [b"1", b"", IMAGE]
    document = {"instances": [{"b64": base64.b64encode(file).decode()} for file in files]}
    assert read(json_request(document), MOST) == Payload([(file, None) for file in files], many=True)


def test_the_polarity_nearest_to_the_image_takes_precedence() -> None:
    def found(instance: str | None, body: str | None, parameter: str | None) -> str | None:
        own = {} if instance is None else {"polarity": instance}
        document = {"instances": [{"b64": B64, **own}]} | ({} if body is None else {"polarity": body})
        parameters = {} if parameter is None else {"polarity": parameter}
        return read(json_request(document, parameters=parameters), MOST).images[0][1]

    one, other = "dark-on-light", "light-on-dark"
    assert found(None, None, None) is None
    assert found(None, None, one) == one
    assert found(None, other, one) == other
    assert found(one, other, other) == one
    form = Request(form={"data": IMAGE, "polarity": one.encode()}, parameters={"polarity": other})
    assert read(form, MOST).images == [(IMAGE, one)]


def test_an_unknown_parameter_is_named() -> None:
    message = rejected(Request(IMAGE, parameters={"polarty": "dark-on-light"}))
    assert message.startswith('unknown-parameter: there is no parameter "polarty"')


DEEP = b'{"instances": ' + b"[" * 50 + b"]" * 50 + b"}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not-json: the body is no JSON in UTF-8 (Expecting value"),
        (b"\xff\xfe{}", "not-json: the body is no JSON in UTF-8 ('utf-8' codec can't decode"),
        (b"\xef\xbb\xbf{}", "not-json: the body is no JSON in UTF-8 (Expecting value"),
        ('{"instances": []}'.encode("utf-16"), "not-json: "),
        (b'{"instances": [{"b64": ', "not-json: "),
        (b'{"instances": []} x', "not-json: the body is no JSON in UTF-8 (Extra data"),
        (b'{"instances": NaN}', "not-json: the body is no JSON in UTF-8 (NaN is no JSON)"),
        (b'{"instances": -Infinity}', "not-json: the body is no JSON in UTF-8 (-Infinity is no JSON)"),
        (b'{"instances": [], "instances": []}', "not-json: the body is no JSON in UTF-8 (an object has a key twice)"),
        (b'{"instances": 1e999}', "wrong-json: instances is Infinity"),
        (b"null", "wrong-json: the body is null; it must be an object"),
        (b"7", "wrong-json: the body is a number"),
        (b'"\\ud800"', 'wrong-json: the body is "\\ud800"'),
        (b"[]", "wrong-json: the body is a list"),
        (b"{}", "wrong-json: instances is null; it must be a list of images"),
        (b'{"instances": {}}', "wrong-json: instances is an object"),
        (b'{"instances": []}', "wrong-json: instances is a list; it must be a list of images, not empty"),
        (b'{"instances": [7]}', "wrong-json: instance 0 is a number; it must be an object"),
        (DEEP, "too-many-instances: more brackets and commas than 4 instances need"),
        (b'{"instances": [[[[}', "not-json: "),
        (b'{"instances": [{}]}', "wrong-json: b64 of instance 0 is null"),
        (b'{"instances": [{"b64": 7}]}', "wrong-json: b64 of instance 0 is a number"),
        (b'{"instances": [{"b64": ""}, {"b64": "!!!!"}]}', 'not-base64: b64 of instance 1 starts "!!!!" (Only base64'),
        (b'{"instances": [{"b64": "AAA"}]}', 'not-base64: b64 of instance 0 starts "AAA" (Incorrect padding)'),
        (b'{"instances": [{"b64": "AA\\nAA"}]}', "not-base64: b64 of instance 0 starts "),
        (b'{"instances": [{"b64": "-_-_"}]}', "not-base64: b64 of instance 0 starts "),
        ('{"instances": [{"b64": "é"}]}'.encode(), "not-base64: b64 of instance 0 starts "),
        (b'{"instances": [{"b64": "\\ud800"}]}', "not-base64: b64 of instance 0 starts "),
        (b'{"instances": [{"image": ""}]}', 'wrong-json: instance 0 has a key "image"; known are b64, polarity'),
        (b'{"inputs": []}', 'wrong-json: the body has a key "inputs"; known are instances, polarity'),
        (b'{"instances": [{"b64": "", "polarity": []}]}', "wrong-polarity: polarity of instance 0 is a list"),
        (b'{"instances": [{"b64": ""}], "polarity": 1.5}', "wrong-polarity: polarity is 1.5"),
        (json.dumps({"instances": [{"b64": ""}] * 5}).encode(), "too-many-instances: 5 are more than 4"),
    ],
)
def test_invalid_json_is_rejected_with_the_reason(body: bytes, message: str) -> None:
    assert rejected(json_request(body)).startswith(message)


def test_a_long_number_or_key_is_cut_in_the_message() -> None:
    assert "Exceeds the limit" in rejected(json_request(b'{"instances": ' + b"9" * 5000 + b"}"))
    assert 'the body has a key "xxxx' in rejected(json_request({"x" * 10**6: 1}))


@pytest.mark.parametrize("piece", [b"[],", b"[", b'{"a":', b"1,", b'{"a":1},', b'"",'])
def test_ten_megabytes_of_small_values_are_rejected_unparsed(piece: bytes) -> None:
    body = b"[" + piece * (10_000_000 // len(piece))
    tracemalloc.start()
    began = time.perf_counter()
    try:
        assert rejected(json_request(body)).startswith("too-many-instances: ")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 1
