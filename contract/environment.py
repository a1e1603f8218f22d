"""The environment variables of steps, server and deploy: every one that they read, with its meaning.

`docs/environment.md` has the same table. Whoever starts fast imports this late, since pydantic-settings takes its time.
"""

import os
from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.cluster import SERVING


class Environment(BaseSettings):
    """The environment as it is now; a variable that is empty counts as not set."""

    model_config = SettingsConfigDict(
        alias_generator=str.upper, case_sensitive=True, env_ignore_empty=True, extra="ignore", frozen=True
    )

    volumes: Path = Field(
        default=Path("/"), description="The folder of the volumes `data`, `model` and `deploy-model`."
    )
    run_id: str | None = Field(default=None, description="The run on Kubeflow, which the journal and the webhook name.")
    webhook_url: str | None = Field(default=None, description="Where the end of a run is reported, in Slack's format.")
    serving_namespace: str | None = Field(
        default=None,
        description="The Kubernetes namespace of the Deployment that serves, which deploy and rollback roll.",
    )
    serving_deployment: str = Field(default=SERVING, description="The name of that Deployment, and of its Service.")
    serving_url: str | None = Field(
        default=None, description="The address of the Service, which answers after a rollout."
    )
    serving_image: str | None = Field(
        default=None, description="The image that deploy writes into the Deployment with a new version."
    )
    kubeconfig: str | None = Field(
        default=None, description="The settings of kubectl, outside the cluster; by default `~/.kube/config`."
    )
    model_version: str | None = Field(
        default=None,
        description="The version that a server serves, whichever the pointer names; its probe expects it too.",
    )
    metrics_address: str | None = Field(
        default=None, description="Where the server answers Prometheus, as `host:port`; by default `127.0.0.1:8082`."
    )
    serving_keys: Path | None = Field(
        default=None, description="A file with one API key a line, of which requests for predictions then need one."
    )
    serving_tls: Path | None = Field(
        default=None, description="A folder with `tls.crt` and `tls.key`, with which the server then speaks HTTPS."
    )
    serving_rate: int = Field(
        default=0,
        ge=0,
        description="Requests a second that a key, or without keys an address, may send; 0: any number.",
    )
    serving_origins: str = Field(
        default="", description="Web origins, with spaces between them, whose pages may ask for predictions."
    )
    serving_collect: str | None = Field(
        default=None,
        description="Keep images that clients send in the folder `collect` beside the volumes, within these limits, "
        "such as `share=0.01,near=0.1,max_mb=500,max_days=30`; `make serve` sets it from `serving.collect`.",
    )
    world_size: int = Field(default=1, description="The number of training processes; torch's launcher sets it.")
    rank: int = Field(default=0, description="The number of this training process, from 0; torch's launcher sets it.")
    local_rank: int = Field(default=0, description="Its number among those of its node, and so its GPU's; likewise.")
    train_job: str | None = Field(
        default=None,
        description="The TrainJob, as JSON without its arguments, that train creates in the place of training itself.",
    )
    pod_name: str | None = Field(default=None, description="The pod that creates a TrainJob.")
    pod_namespace: str | None = Field(default=None, description="Its namespace, in which the TrainJob runs.")


def volumes() -> Path:
    """`Environment().volumes`, read again only where the variable has changed: all of them take a millisecond."""
    return _volumes(os.environ.get("VOLUMES"))


@cache
def _volumes(_variable: str | None) -> Path:
    return Environment().volumes


def table() -> list[tuple[str, str, str]]:
    """Each variable with its default, as text, and its meaning."""
    return [
        (name.upper(), "" if field.default is None else str(field.default), field.description or "")
        for name, field in Environment.model_fields.items()
    ]
