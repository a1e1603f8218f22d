"""The health check of containers, `python -m serving probe`: readiness, or with --live liveness.

It uses the standard library's HTTP client: the kubelet runs it every few seconds, and httpx would double its time.
"""

import argparse
import json
import os
import socket
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path


def probe(arguments: argparse.Namespace) -> int:
    """Probe the server on this machine, by its /ping.

    Readiness: /ping is OK, so a prediction with a known answer is right. Liveness: this project's own process answers
    through the door, even if it says that it is not ready, since it brings back what is missing.

    Args:
        arguments: `port`, `socket`, `live`, and `timeout` in seconds.

    Returns:
        0 if it is ready (live), otherwise 1.
    """
    where = arguments.socket or f"port {arguments.port}"
    try:
        status, rule = _ping(arguments.port, arguments.socket, arguments.timeout)
    except (OSError, HTTPException) as error:
        print(f"{where} does not answer: {error}")
        return 1
    passed = status == HTTPStatus.OK or (arguments.live and rule == "not-ready")
    print(f"{where} is {'' if passed else 'not '}{'live' if arguments.live else 'ready'}")
    return 0 if passed else 1


def _ping(port: int, path: Path | None, timeout: float) -> tuple[int, str | None]:
    """The status of /ping, and the rule of an error."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    if os.environ.get("SERVING_TLS"):
        # Whether the certificate is of this address is no question of health.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)
    elif path:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        connection.sock.connect(str(path))
    try:
        connection.request("GET", "/ping")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)["error"]["rule"]
    except (ValueError, KeyError, TypeError):
        return response.status, None
