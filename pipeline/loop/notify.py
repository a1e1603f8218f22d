"""Tells GitHub that there are new data: sends a `repository_dispatch`, at which the workflow ct.yml runs."""

import os
import re
from typing import Any

from contract.errors import InputError
from pipeline.git import GitError, git
from steps.common.http import Http, NoAnswerError, is_elsewhere, parted, secret, shown

EVENT = "new-data"  # as in .github/workflows/ct.yml
_GITHUB, _API = "github.com", "https://api.github.com"
_VERSION = "2022-11-28"
_REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
# https://host/owner/name.git, ssh://git@host:port/owner/name and git@host:owner/name.git
_REMOTE = re.compile(r"(?:\w+://)?(?:[^@/]*@)?([^:/]+)(?::\d+)?[:/]([^:]+?)(?:\.git)?/?")
_REFUSED = {
    401: "does not accept the token: set GITHUB_TOKEN to a valid one",
    403: "does not let the token do that: it needs the permission Contents, read and write, of that repository",
    404: "does not know that repository, or the token may not see it: it needs the permission Contents, read and "
    "write, of that repository; a classic token the scope repo",
    422: "refuses the event",
}


class NotifyError(InputError):
    """GitHub was not told; the message says why, and holds no token."""


def notify(payload: dict[str, str], *, retries: int = 4, backoff: float = 1.0) -> str:
    """Send the event.

    Args:
        payload: What the workflow may read as `github.event.client_payload`; ten entries at most.
        retries: How often it is sent again where GitHub does not answer.
        backoff: Seconds before that.

    Returns:
        What was done, in a sentence.

    Raises:
        NotifyError: GitHub refuses, or what answers is not GitHub; or the repository is not known.
        AddressError: An address or the token cannot be used.
    """
    token = secret("GITHUB_TOKEN", os.environ.get("GITHUB_TOKEN"))
    if token is None:
        raise NotifyError(
            "there is no token: set GITHUB_TOKEN to one with the permission Contents, read and write, of the repository"
        )
    api, repository = _addressed()
    http = Http(token=token, retries=retries, backoff=backoff, repeated=("POST",))  # two events make one run more
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _VERSION}
    content: dict[str, Any] = {"event_type": EVENT, "client_payload": payload}
    try:
        answer = http.request("POST", f"{api}/repos/{repository}/dispatches", headers=headers, json=content)
    except NoAnswerError as error:
        raise NotifyError(f"{shown(api)} does not answer: {error}") from error
    if answer.status_code == 204 and not is_elsewhere(answer):
        return f"{repository} was told of new data: its workflow ct runs"
    said = _REFUSED.get(answer.status_code)
    if is_elsewhere(answer) or not _is_github(answer.headers) or (said is None and answer.is_success):
        raise NotifyError(f"{shown(api)} is not GitHub's API: see GITHUB_API_URL (status {answer.status_code})")
    told = said or "fails: try again later"
    raise NotifyError(f"{shown(api)} {told} ({repository}, status {answer.status_code})")


def _is_github(headers: Any) -> bool:
    return "x-github-request-id" in headers or "x-github-media-type" in headers


def _addressed() -> tuple[str, str]:
    """The address of the API, and the repository as `owner/name`."""
    given = os.environ.get("GITHUB_API_URL", "").strip()
    repository = os.environ.get("GITHUB_REPOSITORY", "").strip()
    host = _GITHUB
    if not repository:
        host, repository = _remote()
        if host != _GITHUB and not given:
            raise NotifyError(
                f"the remote origin is at {host}, and not at {_GITHUB}: if that is GitHub Enterprise, set "
                f"GITHUB_API_URL to https://{host}/api/v3"
            )
    if not _REPOSITORY.fullmatch(repository):
        raise NotifyError(f"the repository is {repository!r}: set GITHUB_REPOSITORY to owner/name")
    return parted("GITHUB_API_URL", given or _API)[0], repository


def _remote() -> tuple[str, str]:
    try:
        url = git("remote", "get-url", "origin")
    except GitError as error:
        raise NotifyError("this repository has no remote origin: set GITHUB_REPOSITORY to owner/name") from error
    match = _REMOTE.fullmatch(url)
    if not match or url.startswith(("/", ".")):
        raise NotifyError("the remote origin is no repository of a server: set GITHUB_REPOSITORY to owner/name")
    return match[1], match[2]
