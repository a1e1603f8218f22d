"""The package for Kubeflow, at every depth: images, volumes, resources, retries and names; caching is off."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.kubeflow.compile import write_package
from pipeline.placement import Nodes, Toleration, Training
from pipeline.settings import SettingsError, Sharding, load_project
from steps.registry import CLAIMS, STEP_NAMES, STEPS, TASKS
from tests.support.examples import PARAMS, judging
from tests.support.settings import PROJECT_FILE

PROJECT = load_project(PROJECT_FILE)
Spec = dict[str, Any]


def package(path: Path, **kubeflow: Any) -> tuple[Spec, Spec]:
    """The two documents of the package: the pipeline, and the Kubernetes settings of each executor."""
    project = PROJECT.model_copy(update={"kubeflow": PROJECT.kubeflow.model_copy(update=kubeflow)})
    write_package(project, path)
    pipeline, platform = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    return pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Spec]:
    return package(tmp_path_factory.mktemp("compiled") / "pipeline.yaml")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Spec]:
    """With settings that are off by default."""
    return package(
        tmp_path_factory.mktemp("chosen") / "pipeline.yaml",
        name_prefix="digits-",
        webhook_secret="slack",
        image_pull_policy="Always",
        image_pull_secret="login",
        node_selector={"disk": "fast"},
        gpus=2,
    )


def dags(pipeline: Spec) -> Iterator[Spec]:
    for component in (pipeline["root"], *pipeline["components"].values()):
        if "dag" in component:
            yield component["dag"]["tasks"]


def step_tasks(pipeline: Spec) -> dict[str, Spec]:
    """The tasks that run a container, by executor, at every depth."""
    executors = {name: c["executorLabel"] for name, c in pipeline["components"].items() if "executorLabel" in c}
    pairs = [(executors.get(t["componentRef"]["name"]), t) for tasks in dags(pipeline) for t in tasks.values()]
    return {name.removeprefix("exec-"): task for name, task in pairs if name}


def test_every_step_is_one_task_with_its_display_name(compiled: tuple[Spec, Spec]) -> None:
    tasks = step_tasks(compiled[0])
    assert {name: task["taskInfo"]["name"] for name, task in tasks.items()} == {step.name: step.title for step in STEPS}
    assert sum(len(tasks) for tasks in dags(compiled[0])) == len(STEP_NAMES) + 2  # and the two conditions


def test_no_task_at_any_depth_is_cached(compiled: tuple[Spec, Spec]) -> None:
    assert [name for name, task in step_tasks(compiled[0]).items() if task["cachingOptions"].get("enableCache")] == []


def test_shards_are_decoded_by_a_loop_after_a_look_whether_there_is_work(tmp_path: Path) -> None:
    """A run with nothing to do ends after its first task, whatever the number of shards."""
    pipeline, executors = package(tmp_path / "p.yaml", preprocess=Sharding(shards=3), webhook_secret="slack")
    [work] = [tasks for tasks in dags(pipeline) if "preprocess" in tasks]
    [loop] = [task for task in work.values() if "parameterIterator" in task]
    [first] = [tasks for tasks in dags(pipeline) if "scan" in tasks]
    assert set(first) == {"scan", "condition-2"}
    assert first["condition-2"]["triggerPolicy"]["condition"].endswith("scan-settled'] == false")
    assert loop["iteratorPolicy"] == {"parallelismLimit": 3}
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--scan-shards"}
    assert set(pipeline["components"][loop["componentRef"]["name"]]["dag"]["tasks"]) == {"decode"}
    [name] = [name for name, task in work.items() if task is loop]
    assert work["preprocess"]["dependentTasks"] == [name]
    tasks, images = step_tasks(pipeline), references(PROJECT)
    assert set(tasks) == {"scan", "decode", "report", *STEP_NAMES}
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())
    known = {name: set(task["inputs"]["parameters"]) for name, task in tasks.items()}
    assert known["scan"] == known["preprocess"] | {"shards"}, "what decides whether there is work"
    for name in ("scan", "decode"):
        assert tasks[name]["retryPolicy"]["maxRetryCount"] == PROJECT.kubeflow.retries
        container = pipeline["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        assert container["image"] == images["preprocess"]
        assert container["resources"]["resourceMemoryLimit"] == PROJECT.kubeflow.resources["preprocess"].memory_limit
        mounts = [mount["mountPath"] for mount in executors[f"exec-{name}"]["pvcMount"]]
        assert mounts == [f"/{volume}" for volume in TASKS[name].volumes]
        assert [one["name"] for one in executors[f"exec-{name}"]["fieldPathAsEnv"]] == ["RUN_ID"]


def test_images_have_their_tags(compiled: tuple[Spec, Spec]) -> None:
    images = references(PROJECT)
    executors = compiled[0]["deploymentSpec"]["executors"]
    assert {name: executors[f"exec-{name}"]["container"]["image"] for name in STEP_NAMES} == {
        name: images[name] for name in STEP_NAMES
    }
    assert ":latest" not in yaml.safe_dump_all(compiled)


def test_each_step_mounts_the_volumes_it_uses_and_no_others(compiled: tuple[Spec, Spec]) -> None:
    for step in STEP_NAMES:
        mounts = {m["mountPath"]: m["constant"] for m in compiled[1][f"exec-{step}"]["pvcMount"]}
        assert mounts == {f"/{volume}": CLAIMS[volume] for volume in TASKS[step].volumes}


def test_a_prefix_is_part_of_every_claim(chosen: tuple[Spec, Spec]) -> None:
    claims = {mount["constant"] for executor in chosen[1].values() for mount in executor["pvcMount"]}
    assert claims == {f"digits-{claim}" for claim in CLAIMS.values()}


def test_the_claims_are_those_of_infra() -> None:
    claims = {path.stem for path in (ROOT / "infra/pv-pvc/base").glob("*-pvc.yaml")}
    assert claims == set(CLAIMS.values())


@pytest.mark.parametrize("step", ["embed", "index", "analyse"])
def test_a_step_mounts_every_volume_that_it_reads(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from steps.analyse.analyse import analyse
    from steps.embed.embed import embed
    from steps.index.index import index

    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for path in TASKS[step].mounts:
        (model["volumes"] / path[1:]).mkdir(exist_ok=True)
        (mounted / path[1:]).symlink_to(model["volumes"] / path[1:])
    shutil.rmtree(model["volumes"] / "model" / "index")
    shutil.rmtree(model["volumes"] / "model" / "embeddings") if step == "embed" else None
    monkeypatch.setenv("VOLUMES", str(mounted))
    match step:
        case "embed":
            embed(model["gallery"], model["network"], PARAMS["embed"])
        case "index":
            index(model["embeddings"], PARAMS["index"])
        case "analyse":
            monkeypatch.setenv("VOLUMES", str(model["volumes"]))
            made = index(model["embeddings"], PARAMS["index"])
            monkeypatch.setenv("VOLUMES", str(mounted))
            ids = (model["test"], model["network"], made, model["validation"])
            analyse(*ids, **judging())
    assert sorted(path.name for path in mounted.iterdir()) == sorted(path[1:] for path in TASKS[step].mounts)


def test_resources_are_requested_and_limited(compiled: tuple[Spec, Spec]) -> None:
    for step in STEP_NAMES:
        given = PROJECT.kubeflow.resources[step].model_dump()
        assert compiled[0]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"] == {
            **{"resourceCpuRequest": given["cpu"], "resourceCpuLimit": given["cpu_limit"]},
            **{"resourceMemoryRequest": given["memory"], "resourceMemoryLimit": given["memory_limit"]},
            **numbers(given),
        }


def numbers(given: dict[str, str]) -> dict[str, float]:
    """The same resources, in the fields of older servers."""
    units = {"m": 0.001, "Mi": 2**20 / 1e9, "Gi": 2**30 / 1e9}

    def number(text: str) -> float:
        unit = next((unit for unit in units if text.endswith(unit)), "")
        return pytest.approx(float(text.removesuffix(unit)) * units.get(unit, 1.0))  # type: ignore[no-any-return]

    return {
        **{"cpuRequest": number(given["cpu"]), "cpuLimit": number(given["cpu_limit"])},
        **{"memoryRequest": number(given["memory"]), "memoryLimit": number(given["memory_limit"])},
    }


def test_every_pod_may_run_where_podsecurity_is_restricted(chosen: tuple[Spec, Spec]) -> None:
    executors = chosen[1]
    assert set(executors) == {f"exec-{step}" for step in (*STEP_NAMES, "report")}
    for executor in executors.values():
        context = executor["securityContext"]
        assert context == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}


def test_every_request_fits_a_node_of_two_processors_beside_others(compiled: tuple[Spec, Spec]) -> None:
    for executor in compiled[0]["deploymentSpec"]["executors"].values():
        assert executor["container"]["resources"]["cpuRequest"] <= 0.5


def test_the_package_names_what_runs(compiled: tuple[Spec, Spec], tmp_path: Path) -> None:
    """The first step ends a run of the same code, parameters and data; so the code's name changes with any image."""

    def code(pipeline: Spec) -> str:
        return str(
            pipeline["root"]["dag"]["tasks"]["preprocess"]["inputs"]["parameters"]["code"]["runtimeValue"]["constant"]
        )

    first = code(compiled[0])
    assert first == code(package(tmp_path / "p.yaml")[0])
    assert first != code(package(tmp_path / "p.yaml", serving_namespace=None)[0])
    elsewhere = PROJECT.model_copy(update={"registry": "elsewhere.example"})
    write_package(elsewhere, tmp_path / "q.yaml")
    assert first != code(next(yaml.safe_load_all((tmp_path / "q.yaml").read_text())))


def test_every_step_is_retried(compiled: tuple[Spec, Spec]) -> None:
    for task in step_tasks(compiled[0]).values():
        assert task["retryPolicy"]["maxRetryCount"] == PROJECT.kubeflow.retries


def test_pull_policy_secret_and_node_are_as_set(compiled: tuple[Spec, Spec], chosen: tuple[Spec, Spec]) -> None:
    assert {compiled[1][f"exec-{step}"]["imagePullPolicy"] for step in STEP_NAMES} == {"IfNotPresent"}
    assert not any({"imagePullSecret", "nodeSelector"} & set(executor) for executor in compiled[1].values())
    for step in STEP_NAMES:
        executor = chosen[1][f"exec-{step}"]
        assert executor["imagePullPolicy"] == "Always"
        assert [secret["secretName"] for secret in executor["imagePullSecret"]] == ["login"]
        assert executor["nodeSelector"]["labels"] == {"disk": "fast"}


def test_a_step_has_its_own_nodes_and_tolerations_besides_the_common_ones(tmp_path: Path) -> None:
    toleration = Toleration(key="gpu", value="a", effect="NoSchedule")
    own = {"train": Nodes(selector={"gpu": "true", "disk": "slow"}, tolerations=(toleration,))}
    executors = package(tmp_path / "p.yaml", node_selector={"disk": "fast"}, nodes=own)[1]
    labels = {name: executor["nodeSelector"]["labels"] for name, executor in executors.items()}
    assert labels.pop("exec-train") == {"disk": "slow", "gpu": "true"}
    assert set(map(str, labels.values())) == {str({"disk": "fast"})}
    tolerations = {name: executor.get("tolerations") for name, executor in executors.items()}
    assert tolerations.pop("exec-train") == [{"key": "gpu", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]
    assert set(tolerations.values()) == {None}


def test_several_processes_train_in_a_job_that_a_small_pod_creates(tmp_path: Path, compiled: tuple[Spec, Spec]) -> None:
    own = {"train": Nodes(selector={"gpu": "true"})}
    training = Training(nodes=2, gpus_per_node=4)
    pipeline, executors = package(tmp_path / "p.yaml", train=training, nodes=own)
    container = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]
    (variable,) = container["env"]
    job = json.loads(variable["value"])
    assert (variable["name"], job["kind"]) == ("TRAIN_JOB", "TrainJob")
    assert job["spec"]["trainer"]["image"] == references(PROJECT)["train"] == container["image"]
    assert "accelerator" not in container["resources"], "the job's pods have the GPUs"
    assert container["resources"]["resourceMemoryLimit"] == "1Gi"
    executor = executors["exec-train"]
    assert "nodeSelector" not in executor
    fields = {one["name"]: one["fieldPath"] for one in executor["fieldPathAsEnv"]}
    assert fields == {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    assert "env" not in compiled[0]["deploymentSpec"]["executors"]["exec-train"]["container"], "one process needs none"
    assert pipeline["root"] == compiled[0]["root"], "the number of processes names no other work"


def test_gpus_are_for_train_only(compiled: tuple[Spec, Spec], chosen: tuple[Spec, Spec]) -> None:
    assert "nvidia" not in yaml.safe_dump_all(compiled)
    containers = {name: e["container"] for name, e in chosen[0]["deploymentSpec"]["executors"].items()}
    accelerated = {name: c["resources"].get("accelerator") for name, c in containers.items()}
    accelerator = accelerated.pop("exec-train")
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "2")
    assert set(accelerated.values()) == {None}


def test_without_a_webhook_there_is_no_report(compiled: tuple[Spec, Spec]) -> None:
    assert "report" not in step_tasks(compiled[0])
    assert [name for name, executor in compiled[1].items() if "fieldPathAsEnv" in executor] == ["exec-deploy"]


def test_only_deploy_gets_the_serving_variables(tmp_path: Path, compiled: tuple[Spec, Spec]) -> None:
    def environment(pipeline: Spec) -> dict[str, dict[str, str]]:
        executors = pipeline["deploymentSpec"]["executors"]
        return {
            name: {one["name"]: one["value"] for one in executor["container"].get("env", [])}
            for name, executor in executors.items()
        }

    told = environment(compiled[0])
    assert told.pop("exec-deploy") == {
        "SERVING_NAMESPACE": "kubeflow",
        "SERVING_DEPLOYMENT": "torchserve",
        "SERVING_URL": "http://torchserve.kubeflow.svc:8080",
        "SERVING_IMAGE": references(PROJECT)["serving"],
    }
    assert not any(told.values())
    other = environment(package(tmp_path / "p.yaml", serving_namespace="models")[0])["exec-deploy"]
    assert (other["SERVING_NAMESPACE"], other["SERVING_URL"]) == ("models", "http://torchserve.models.svc:8080")
    other = environment(package(tmp_path / "p.yaml", name_prefix="digits-")[0])["exec-deploy"]
    assert other["SERVING_DEPLOYMENT"] == "digits-torchserve"
    assert other["SERVING_URL"] == "http://digits-torchserve.kubeflow.svc:8080"
    assert not any(environment(package(tmp_path / "p.yaml", serving_namespace=None)[0]).values())


def test_deploy_gets_the_id_of_the_run(compiled: tuple[Spec, Spec]) -> None:
    assert compiled[1]["exec-deploy"]["fieldPathAsEnv"] == [
        {"name": "RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
    ]


def test_a_webhook_gets_a_report_of_every_run(chosen: tuple[Spec, Spec]) -> None:
    pipeline, executors = chosen
    tasks = step_tasks(pipeline)
    assert set(tasks) == {*STEP_NAMES, "report"}
    assert tasks["report"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())
    secret = executors["exec-report"]["secretAsEnv"][0]
    assert secret["secretName"] == "slack"
    assert secret["keyToEnv"] == [{"envVar": "WEBHOOK_URL", "secretKey": "url"}]
    named = {name: [one["name"] for one in executor.get("fieldPathAsEnv", [])] for name, executor in executors.items()}
    assert {name for name, fields in named.items() if fields == ["RUN_ID"]} == {f"exec-{task}" for task in tasks}
    mounts = {name: {mount["mountPath"] for mount in executor["pvcMount"]} for name, executor in executors.items()}
    assert all("/model" in paths for paths in mounts.values()), "where the run keeps what its steps said"
    assert (
        pipeline["deploymentSpec"]["executors"]["exec-report"]["container"]["image"] == references(PROJECT)["validate"]
    )


def test_the_command_writes_the_package(tmp_path: Path) -> None:
    path = tmp_path / "new folder/package.yaml"
    command = [sys.executable, "-m", "pipeline", "compile", "--output", path, "--project", PROJECT_FILE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(path) in done.stdout
    assert next(yaml.load_all(path.read_text(), yaml.CSafeLoader))["pipelineInfo"]["name"] == PROJECT.name


def test_a_wrong_package_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="its name must end with .yaml"):
        write_package(PROJECT, tmp_path / "package.txt")
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"):
        write_package(PROJECT, tmp_path / "file/package.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_pull_policy", "Sometimes"),
        ("gpus", -1),
        ("service_account", "Not Valid"),
        ("node_selector", {"a": 1}),
        ("resources", {"trian": {}}),
        ("resources", {"train": {"gpu": "1"}}),
        ("resources", {"train": {"memory": "lots"}}),
        ("resources", {"train": None}),
        ("resources", ["train"]),
        ("retries", "two"),
        ("preprocess", {"shards": 0}),
        ("serving_namespace", "Not.Valid"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, key: str, value: Any) -> None:
    settings = yaml.safe_load(PROJECT_FILE.read_text())
    settings["kubeflow"][key] = value
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(SettingsError, match=f"project.yaml: kubeflow.{key}"):
        load_project(path)


def test_project_yaml_may_change_a_quantity_of_a_step(tmp_path: Path) -> None:
    settings = yaml.safe_load(PROJECT_FILE.read_text())
    settings["kubeflow"]["resources"] = {"train": {"memory_limit": "64Gi"}}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(settings))
    given = load_project(tmp_path / "project.yaml").kubeflow.resources
    assert given["train"] == TASKS["train"].resources.model_copy(update={"memory_limit": "64Gi"})
    assert {name: resources for name, resources in given.items() if name != "train"} == {
        step.name: step.resources for step in STEPS if step.name != "train"
    }


def test_project_yaml_may_give_every_resource_or_none(tmp_path: Path) -> None:
    settings = yaml.safe_load(PROJECT_FILE.read_text())
    other = {"cpu": "1", "cpu_limit": "1", "memory": "1Gi", "memory_limit": "1Gi"}
    for section, wanted in ((dict.fromkeys(STEP_NAMES, other), other), (None, None)):
        settings["kubeflow"].pop("resources", None)
        if section:
            settings["kubeflow"]["resources"] = section
        (tmp_path / "project.yaml").write_text(yaml.safe_dump(settings))
        given = load_project(tmp_path / "project.yaml").kubeflow.resources
        assert {name: resources.model_dump() for name, resources in given.items()} == {
            step.name: wanted or step.resources.model_dump() for step in STEPS
        }


def test_an_unknown_step_is_named_with_those_there_are(tmp_path: Path) -> None:
    settings = yaml.safe_load(PROJECT_FILE.read_text())
    settings["kubeflow"]["resources"] = {"trian": {}}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SettingsError, match="kubeflow.resources: there is no step trian; the steps are preprocess, "):
        load_project(tmp_path / "project.yaml")
