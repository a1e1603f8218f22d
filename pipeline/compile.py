"""The pipeline as Kubeflow takes it: reads the settings and the steps' sources, writes the package, one YAML file."""

from collections.abc import Mapping
from pathlib import Path

from kfp import compiler, dsl, kubernetes

from pipeline.images import references
from pipeline.pipeline import build_pipeline
from pipeline.settings import Project, SettingsError

CLAIMS = {"/data": "data-pvc", "/model": "train-model-pvc", "/deploy-model": "deploy-model-pvc"}
MOUNTS: Mapping[str, tuple[str, ...]] = {
    "preprocess": ("/data",),
    "validate": ("/data",),
    "train": ("/data", "/model"),
    "embed": ("/data", "/model"),
    "index": ("/model",),
    "analyse": ("/data", "/model", "/deploy-model"),
    "deploy": ("/data", "/model", "/deploy-model"),
}
_GPU = "nvidia.com/gpu"


def write_package(project: Project, path: Path) -> None:
    """Compile the pipeline into this file, whose name ends with .yaml; SettingsError if it cannot be written."""
    if path.suffix not in (".yaml", ".yml"):
        raise SettingsError(f"--output: is {str(path)!r}; a package's name ends with .yaml")
    pipeline = build_pipeline(project, references(project), lambda task: _prepare(task, project))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        compiler.Compiler().compile(pipeline, str(path))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error


def _prepare(task: dsl.PipelineTask, project: Project) -> None:
    """Give a task what its pod needs: volumes, resources, nodes, the image's login, another try."""
    kubeflow = project.kubeflow
    for path in MOUNTS[task.name]:
        kubernetes.mount_pvc(task, CLAIMS[path], path)
    resources = kubeflow.resources.model_dump(by_alias=True)[task.name]
    task.set_cpu_request(resources["cpu"]).set_cpu_limit(resources["cpu_limit"])
    task.set_memory_request(resources["memory"]).set_memory_limit(resources["memory_limit"])
    if kubeflow.gpus and task.name == "train":
        task.set_accelerator_type(_GPU).set_accelerator_limit(kubeflow.gpus)
    for label, value in kubeflow.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    kubernetes.set_image_pull_policy(task, kubeflow.image_pull_policy)
    if kubeflow.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [kubeflow.image_pull_secret])
    if kubeflow.retries:  # kfp cannot tell a lost node from a failed step; finished work is found again
        task.set_retry(kubeflow.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="5m")
