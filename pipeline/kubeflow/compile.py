"""Compiles the pipeline for Kubeflow: reads the settings and the steps' sources, writes the package, one YAML file."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from pipeline import components
from pipeline.images.build import references
from pipeline.images.docker import GID, UID
from pipeline.kubeflow.train_job import GPU, manifest
from pipeline.pipeline import build_pipeline
from pipeline.settings import Project, SettingsError
from steps.common.digest import digest
from steps.registry import REPORT, TASKS, Resources

# Of train's own pod where a TrainJob does the work, which it creates and follows.
_FOLLOWING = Resources(cpu="100m", cpu_limit="1", memory="256Mi", memory_limit="1Gi")


def write_package(project: Project, path: Path, inputs: dict[str, Any] | None = None) -> None:
    """Compile the pipeline.

    Args:
        project: The project, with the settings of the pods.
        path: The package to write; its name ends with .yaml.
        inputs: The default of each of the pipeline's inputs.

    Raises:
        SettingsError: The name ends otherwise, or the file cannot be written.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"--output: is {str(path)!r}; its name must end with .yaml")
    images = references(project)
    pipeline = build_pipeline(
        project,
        images,
        lambda task: _prepare(task, project),
        lambda: reporting(project),
        code=digest([images, project.kubeflow.serving_namespace]),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(pipeline, str(path), pipeline_parameters=inputs)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error


def reporting(project: Project) -> AbstractContextManager[Any]:
    """The exit handler that reports how a run ended.

    Args:
        project: The project; without a webhook secret there is no handler.

    Returns:
        The context in which the tasks of the pipeline are made.
    """
    kubeflow = project.kubeflow
    if not kubeflow.webhook_secret:
        return nullcontext()
    image = references(project)[REPORT.image]
    task = dsl.component(components.report, base_image=image, install_kfp_package=False)(name=project.name)
    task.set_caching_options(False)
    task.set_display_name(REPORT.title)
    _prepare(task, project)
    kubernetes.use_secret_as_env(task, kubeflow.webhook_secret, {"url": "WEBHOOK_URL"})
    handler: AbstractContextManager[Any] = dsl.ExitHandler(task, name="reported")
    return handler


def _prepare(task: dsl.PipelineTask, project: Project) -> None:
    """Configure a task's pod: volumes, environment, resources, node selector, image pull, retries."""
    kubeflow, step = project.kubeflow, TASKS[task.name]
    for volume in step.volumes:
        kubernetes.mount_pvc(task, kubeflow.claims[volume], f"/{volume}")
    if task.name == "deploy" or (kubeflow.webhook_secret and "model" in step.volumes):
        kubernetes.use_field_path_as_env(task, "RUN_ID", "metadata.labels['pipeline/runid']")
    if task.name == "deploy" and (namespace := kubeflow.serving_namespace):
        task.set_env_variable("SERVING_NAMESPACE", namespace)
        task.set_env_variable("SERVING_DEPLOYMENT", kubeflow.serving)
        task.set_env_variable("SERVING_URL", f"http://{kubeflow.serving}.{namespace}.svc:8080")
        task.set_env_variable("SERVING_IMAGE", references(project)["serving"])
    # As the restricted profile of PodSecurity demands; the rest of it are Kubeflow's own settings of the pod.
    kubernetes.set_security_context(task, run_as_user=UID, run_as_group=GID, run_as_non_root=True)
    follows = task.name == "train" and kubeflow.trains_in_a_job
    if follows:
        task.set_env_variable("TRAIN_JOB", json.dumps(manifest(project, references(project)[step.image])))
        kubernetes.use_field_path_as_env(task, "POD_NAME", "metadata.name")
        kubernetes.use_field_path_as_env(task, "POD_NAMESPACE", "metadata.namespace")
    resources = _FOLLOWING if follows else kubeflow.resources[step.image]
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory_limit)
    if kubeflow.gpus and step.gpus:
        task.set_accelerator_type(GPU).set_accelerator_limit(kubeflow.gpus)
    # Where a TrainJob trains, its pods have train's nodes, and the pod that follows it any.
    for label, value in (kubeflow.node_selector if follows else kubeflow.selector(step.image)).items():
        kubernetes.add_node_selector(task, label, value)
    for each in () if follows else kubeflow.tolerations(step.image):
        kubernetes.add_toleration(task, each.key, each.operator, each.value, each.effect)
    kubernetes.set_image_pull_policy(task, kubeflow.image_pull_policy)
    if kubeflow.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [kubeflow.image_pull_secret])
    if kubeflow.retries:  # Kubeflow retries a failed step as it does a lost node; a retry skips finished work
        task.set_retry(kubeflow.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="5m")
