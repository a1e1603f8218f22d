"""The errors of a Kubeflow Pipelines server, made from what its client raises."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import kfp_server_api as api
import urllib3

from contract.errors import InputError


class KubeflowError(InputError):
    """The server refuses a request, or cannot be reached; the message says what to do."""


class TransientError(KubeflowError):
    """The server is unavailable: a retry may succeed."""


class AlreadyExistsError(KubeflowError):
    """The object to create already exists."""


class LoginError(KubeflowError):
    """The server rejects the token, or the token may not do this."""


@contextmanager
def translated(host: str, namespace: str | None) -> Iterator[None]:
    """Turn what the client raises into a KubeflowError.

    Args:
        host: The server's address, for the message.
        namespace: The user's namespace, for the message.

    Yields:
        Nothing.

    Raises:
        TransientError: No answer, or a status of 500 or more.
        LoginError: 401 or 403.
        AlreadyExistsError: 409.
        KubeflowError: Another status.
    """
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(
            f"{host} does not answer ({_cause(error)}): see that the server runs and that --host or KFP_HOST is its "
            "address"
        ) from error
    except api.ApiException as error:
        refusal = _refusal(error, host, namespace)
        raise refusal from error


def _refusal(error: api.ApiException, host: str, namespace: str | None) -> KubeflowError:
    answer = f"{error.status}: {_message(error)}"
    match error.status:
        case HTTPStatus.UNAUTHORIZED:
            return LoginError(f"{host} does not accept the token ({answer}): set KFP_TOKEN to a valid one")
        case HTTPStatus.FORBIDDEN:
            return LoginError(
                f"{host} does not let this token use the namespace {namespace!r} ({answer}): set KFP_NAMESPACE to one "
                "that exists, or ask for access to it"
            )
        case HTTPStatus.NOT_FOUND:
            return KubeflowError(
                f"{host} answers Not Found ({answer}): see that --host or KFP_HOST is the address of a Kubeflow "
                "Pipelines server"
            )
        case HTTPStatus.CONFLICT:
            return AlreadyExistsError(f"{host} has it already ({answer}): give the project another name")
        case status if status and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TransientError(f"{host} fails ({answer}): try again, or look at its log")
    return KubeflowError(f"{host} refuses the request ({answer})")


def _cause(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).rpartition(": ")[2]


def _message(error: api.ApiException) -> str:
    try:
        content = json.loads(error.body)
        return str(content.get("message") or content.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)
