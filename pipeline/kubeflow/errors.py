"""The errors of a Kubeflow Pipelines server, made from its answers."""

from http import HTTPStatus

import httpx

from contract.errors import InputError
from steps.common.http import LATER, ForeignAnswerError, content, described, is_elsewhere


class KubeflowError(InputError):
    """The server refuses a request, or cannot be reached; the message says what to do."""

    retry_after = 0.0  # seconds that the server asks to wait


class TransientError(KubeflowError):
    """The server is unavailable: a retry may succeed."""


class AlreadyExistsError(KubeflowError):
    """The object to create already exists."""


class LoginError(KubeflowError):
    """The server rejects the token, or the token may not do this, or a login page answers in its place."""


_REFUSALS: dict[int, tuple[type[KubeflowError], str]] = {
    HTTPStatus.UNAUTHORIZED: (LoginError, "does not accept the token ({said}): set KFP_TOKEN to a valid one"),
    HTTPStatus.FORBIDDEN: (
        LoginError,
        "does not let this token use the namespace {namespace} ({said}): set KFP_NAMESPACE to one that exists, or ask "
        "for access to it",
    ),
    HTTPStatus.NOT_FOUND: (
        KubeflowError,
        "answers Not Found ({said}): see that --host or KFP_HOST is the address of a Kubeflow Pipelines server",
    ),
    HTTPStatus.CONFLICT: (AlreadyExistsError, "has it already ({said}): give the project another name"),
}


def unanswered(host: str, cause: object) -> TransientError:
    """The error of a request without an answer.

    Args:
        host: The server's address.
        cause: Why there is none.

    Returns:
        The error, to raise.
    """
    return TransientError(
        f"{host} does not answer ({cause}): see that the server runs and that --host or KFP_HOST is its address"
    )


def foreign(host: str, what: object) -> LoginError:
    """The error of an answer that is none of Kubeflow Pipelines.

    Args:
        host: The server's address.
        what: What answers.

    Returns:
        The error, to raise.
    """
    return LoginError(
        f"{host} is not a Kubeflow Pipelines server: it answers with {what}; set --host or KFP_HOST to the address of "
        "the server, and KFP_TOKEN to a token that the login in front of it accepts"
    )


def refusal(host: str, namespace: str | None, answer: httpx.Response) -> KubeflowError:
    """The error of an answer whose status is not of success.

    Args:
        host: The server's address.
        namespace: The user's namespace.
        answer: The answer.

    Returns:
        The error, to raise.
    """
    said = f"{answer.status_code}: {_message(answer)}"
    if is_elsewhere(answer):
        return foreign(host, described(answer))
    if answer.status_code in LATER or answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error = TransientError(f"{host} fails ({said}): try again, or look at its log")
        after = answer.headers.get("Retry-After", "").strip()
        error.retry_after = float(after) if after.isdecimal() else 0.0
        return error
    kind, told = _REFUSALS.get(answer.status_code, (KubeflowError, "refuses the request ({said})"))
    return kind(f"{host} {told.format(said=said, namespace=repr(namespace))}")


def _message(answer: httpx.Response) -> str:
    try:
        said = content(answer)
    except ForeignAnswerError as other:
        return f"{answer.reason_phrase}, {other}"
    return str(said.get("message") or said.get("error") or answer.reason_phrase)
