"""The HTTP client: certificates and proxies of the environment, retries, what answers in place of a server, secrets."""

import logging
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme

from steps.common.http import AddressError, ForeignAnswerError, Http, NoAnswerError, content, parted, secret
from tests.support.web import LOGIN_PAGE, Asked, Said, Web

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def private(authority: trustme.CA) -> Iterator[Web]:
    """A server with a certificate of a company's own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "name.invalid").configure_cert(context)
    with Web(lambda _: Said(), context) as web:
        yield web


def fast(**more: object) -> Http:
    return Http(backoff=0.01, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("variable", VARIABLES[:3])
def test_a_private_certificate_is_trusted_if_the_environment_names_it(
    private: Web, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with pytest.raises(NoAnswerError, match="certificate is not trusted: .*; SSL_CERT_FILE names those"):
        Http(retries=9).request("GET", private.url)  # at once, since a retry changes nothing
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    assert fast().request("GET", private.url).status_code == 200


def test_certificates_that_cannot_be_read_are_named_with_their_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (None, "no certificate"):
        if text:
            (tmp_path / "ca.pem").write_text(text)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with pytest.raises(AddressError, match="SSL_CERT_FILE is .*ca.pem', of which no certificates can be read"):
            Http()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_https_goes_through_the_proxy(
    private: Web, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Web(lambda _: Said()) as proxy:
        monkeypatch.setenv(variable, f"http://me:hidden@{proxy.address}")
        place = f"name.invalid:{private.port}"  # known to the proxy alone
        assert fast(token="t").request("GET", f"https://{place}/x").status_code == 200
    (asked,) = proxy.asked
    assert (asked.method, asked.target) == ("CONNECT", place)
    assert "Authorization" not in asked.headers
    assert private.asked[0].headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [("", False), ("elsewhere", False), ("127.0.0.1", True), ("x, 127.0.0.0/8", True), ("*", True), ("7.0.0.1", False)],
)
def test_no_proxy_names_hosts_and_networks(monkeypatch: pytest.MonkeyPatch, no_proxy: str, direct: bool) -> None:
    with Web(lambda _: Said()) as server, Web(lambda _: Said()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert fast().request("GET", f"{server.url}/x").status_code == 200
    assert [asked.target for asked in server.asked] == (["/x"] if direct else [])
    assert [asked.target for asked in proxy.asked] == ([] if direct else [f"{server.url}/x"])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_be_done_later_is_asked_again(status: int) -> None:
    answers = [Said(status), Said(status), Said()]
    with Web(lambda _: answers.pop(0)) as server:
        assert fast().request("GET", server.url).status_code == 200
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 409, 501])
def test_what_will_not_be_done_is_not_asked_again(status: int) -> None:
    with Web(lambda _: Said(status)) as server:
        assert fast().request("GET", server.url).status_code == status
    assert len(server.asked) == 1


@pytest.mark.parametrize("by_date", [False, True])
def test_retry_after_is_heeded(monkeypatch: pytest.MonkeyPatch, by_date: bool) -> None:
    after = formatdate(time.time() + 30, usegmt=True) if by_date else "30"
    answers = [Said(429, headers={"Retry-After": after}), Said()]
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with Web(lambda _: answers.pop(0)) as server:
        assert fast().request("GET", server.url).status_code == 200
    [seconds] = slept
    assert 20 < seconds <= 30


def test_a_post_is_not_repeated_unless_asked_for() -> None:
    with Web(lambda _: Said(503)) as server:
        assert fast().request("POST", server.url).status_code == 503
        assert len(server.asked) == 1
        fast(repeated=("POST",), retries=2).request("POST", server.url)
    assert len(server.asked) == 4


def test_a_login_page_is_named_with_its_title_and_where_it_is() -> None:
    def answer(asked: Asked) -> Said:
        if asked.target == "/":
            return Said(302, headers={"Location": f"http://localhost:{web.port}/auth?state=hidden"})
        return Said(body=LOGIN_PAGE, kind="text/html; charset=utf-8")

    with Web(answer) as web:
        with pytest.raises(ForeignAnswerError) as found:
            content(fast(token="hidden").request("GET", web.url))
        with pytest.raises(ForeignAnswerError) as direct:
            content(fast().request("GET", f"{web.url}/auth"))
        with pytest.raises(ForeignAnswerError, match="a redirect to http://localhost:[0-9]+/auth"):
            content(fast().request("POST", web.url))
    assert str(found.value) == f"the page 'Log in to Your Account' of http://localhost:{web.port}/auth"
    assert str(direct.value) == "the page 'Log in to Your Account'"


def test_a_redirect_to_another_host_carries_no_token_and_no_password() -> None:
    def answer(asked: Asked) -> Said:
        return Said(307, headers={"Location": f"http://localhost:{web.port}/far"}) if asked.target == "/" else Said()

    with Web(answer) as web:
        for http in (fast(token="t"), fast(login=("me", "hidden"))):
            answered = http.request("GET", web.url)
            with pytest.raises(ForeignAnswerError):  # JSON, but of another server
                content(answered)
    assert [("Authorization" in asked.headers, asked.target) for asked in web.asked] == [
        (True, "/"),
        (False, "/far"),
    ] * 2


@pytest.mark.parametrize(
    ("body", "kind", "what"),
    [
        ("[1]", "application/json", "application/json (status 200)"),
        ("hello", "text/plain", "text/plain (status 200)"),
        ("", "text/html", "text/html (status 200)"),
        ("<title>&lt;b&gt; " + "x" * 200, "text/html", "text/html (status 200)"),
        ("<title>&lt;b&gt; " + "x" * 200 + "</title>", "text/html", f"the page {'<b> ' + 'x' * 76!r}"),
    ],
)
def test_what_is_no_json_object_is_described(body: str, kind: str, what: str) -> None:
    with Web(lambda _: Said(body=body, kind=kind)) as web, pytest.raises(ForeignAnswerError) as found:
        content(fast().request("GET", web.url))
    assert str(found.value) == what


def test_a_secret_is_stripped_and_never_shown() -> None:
    assert secret("KFP_TOKEN", " abc\r\n") == "abc"
    assert secret("KFP_TOKEN", "\n") is None
    for text in ("hid\nden", "hid den", "hidd\u00e9n"):
        with pytest.raises(AddressError, match="^KFP_TOKEN has ") as found:
            secret("KFP_TOKEN", text)
        assert "hid" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "address", "login"),
    [
        (" https://me:p%40ss@kf.example:8443/pipeline/ \n", "https://kf.example:8443/pipeline", ("me", "p@ss")),
        ("http://[::1]:80", "http://[::1]:80", None),
        ("https://KF.example/a/#/runs", "https://kf.example/a", None),
    ],
)
def test_an_address_is_parted_from_its_login(text: str, address: str, login: tuple[str, str] | None) -> None:
    assert parted("the host", text) == (address, login)


@pytest.mark.parametrize(
    "text", ["ftp://me:hidden@x", "http://me:hidden@x:99999", "//me:hidden@", "me:hidden@x", "http://a b"]
)
def test_what_is_no_address_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(AddressError, match="^the host is ") as found:
        parted("the host", text)
    assert "hidden" not in str(found.value)


def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Web(lambda _: Said()) as web:
        fast(token="hidden").request("GET", f"{web.url}/hidden")
    assert "hidden" not in caplog.text
