"""The connection to the Kubernetes API, of this pod's cluster or of kubectl's settings. It writes nothing itself."""

from typing import Any

import urllib3
from kubernetes import client, config

from contract.environment import Environment
from steps.common.errors import StepError

BACKOFF_SECONDS = 0.5
REQUEST_SECONDS = 30
TRANSIENT = (409, 429, 500, 502, 503, 504)
_RETRIES = 6


class NoClusterError(StepError):
    """This is no pod, and kubectl's settings name no cluster."""


def connect(transient: tuple[int, ...] = TRANSIENT) -> Any:
    """Connect; a request whose answer is lost, or has a transient status, is sent again.

    Args:
        transient: The statuses after which a request is sent again.

    Returns:
        The client of the API, for the classes of `kubernetes.client`.

    Raises:
        NoClusterError: There is no cluster to connect to.
    """
    settings = client.Configuration()
    try:
        config.load_incluster_config(settings)
    except config.ConfigException:
        try:
            config.load_kube_config(Environment().kubeconfig, client_configuration=settings)
        except config.ConfigException as error:
            raise NoClusterError(str(error)) from error
    settings.retries = urllib3.Retry(
        _RETRIES,
        status_forcelist=transient,
        allowed_methods=None,
        backoff_factor=BACKOFF_SECONDS,
        raise_on_status=False,
        redirect=0,
    )
    return client.ApiClient(settings)
