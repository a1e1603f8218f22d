"""What README and docs/kubeflow.md say, done on a real cluster in their order: from claims to rollback and removal.

Each test goes on where the one before it ended. Whatever is asserted of the cluster is asked by kubectl.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
import requests

from contract.paths import ROOT
from steps.registry import STEP_NAMES
from tests.support.cluster_project import VOLUMES, Project, kubectl, objects

pytestmark = pytest.mark.cluster
STAMP = "continuous-training/model-version"
NOTHING_TO_DO_SECONDS = 60
FIRST_MODEL_SECONDS = 10
CLAIMS = ("data-pvc", "train-model-pvc", "deploy-model-pvc")
QUICK = {"epochs": 8}
deployed: list[str] = []  # the versions, in their order


def on_the_node(project: Project, name: str, command: str) -> str:
    """The output of a command that runs as root beside the volumes' folders, in the image of a step."""
    mount = {"name": "node", "mountPath": VOLUMES}
    container = {
        "name": name,
        "image": project.image("validate"),
        "command": ["sh", "-c", command],
        "volumeMounts": [mount],
    }
    container["securityContext"] = {"runAsUser": 0, "runAsNonRoot": False}
    folder = {"name": "node", "hostPath": {"path": VOLUMES, "type": "DirectoryOrCreate"}}
    node = project.nodes()[0]["metadata"]["labels"]["kubernetes.io/hostname"]
    spec = {"containers": [container], "volumes": [folder], "restartPolicy": "Never"}
    spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    place = ("-n", project.namespace)
    kubectl("delete", "pod", name, *place, "--ignore-not-found")
    kubectl("apply", *place, "-f", "-", given=json.dumps(pod))
    kubectl("wait", "pod", name, *place, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    said = kubectl("logs", name, *place)
    kubectl("delete", "pod", name, *place)
    return said


def serving_pods(project: Project) -> list[dict[str, object]]:
    return objects("pods", project.settings["kubeflow"]["serving_namespace"], "app.kubernetes.io/name=torchserve")


def stamp(project: Project) -> str | None:
    (serving,) = [
        one
        for one in objects("deployments", project.settings["kubeflow"]["serving_namespace"])
        if one["metadata"]["name"] == "torchserve"
    ]
    found: str | None = serving["spec"]["template"]["metadata"].get("annotations", {}).get(STAMP)
    return found


def is_ready(pod: dict[str, object]) -> bool:
    status = pod["status"]
    assert isinstance(status, dict)
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))


@contextlib.contextmanager
def asked(address: str) -> Iterator[list[str]]:
    """Ask the Service for predictions all the time; what was not answered, in the end."""
    lost, stop = list[str](), threading.Event()
    image = (ROOT / "samples/7.png").read_bytes()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = requests.put(address, data=image, timeout=30)
                if answer.status_code != 200:
                    lost.append(f"{answer.status_code} {answer.text[:200]}")
            except requests.RequestException as error:
                lost.append(str(error))
            time.sleep(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield lost
    finally:
        stop.set()
        thread.join()


def test_claims_bind(project: Project) -> None:
    folders = " ".join(f"{VOLUMES}/{name}" for name in ("data", "model", "deploy-model"))
    on_the_node(project, "make-folders", f"rm -rf {folders}; install -d -o 1000 -g 1000 {folders}")
    kubectl("apply", "-k", str(project.folder / "infra/pv-pvc"))
    for claim in CLAIMS:
        bound = "--for=jsonpath={.status.phase}=Bound"
        kubectl("wait", "pvc", claim, "-n", project.namespace, bound, "--timeout=120s")


def test_serving_waits_for_its_first_model(project: Project) -> None:
    kubectl("apply", "-k", str(project.folder / "infra/torchserve"))
    time.sleep(60)
    pods = serving_pods(project)
    assert pods
    for pod in pods:
        assert not is_ready(pod)
        status = pod["status"]
        assert isinstance(status, dict)
        assert [one["restartCount"] for one in status.get("containerStatuses", ())] == [0]
        assert "no model is deployed yet" in kubectl("logs", pod["metadata"]["name"], "-n", project.namespace)


def test_doctor_finds_everything_right(project: Project) -> None:
    done = project.command("doctor")
    assert (done.status, [line for line in done.out.splitlines() if line.startswith("NOT")]) == (0, [])


def test_the_first_run_deploys_and_says_what_each_step_made(project: Project) -> None:
    project.change("params.yaml", train=QUICK)
    done = project.submit()
    assert done.status == 0
    word, version, *_ = done.last.split()
    assert word == "DEPLOYED"
    deployed.append(version.rstrip(":"))
    made = {line.split()[0] for line in done.out.splitlines() if len(line.split()) > 1}
    assert set(STEP_NAMES) <= made
    assert "accuracy 0." in done.last
    assert stamp(project) == deployed[-1]
    ready = [pod for pod in serving_pods(project) if is_ready(pod)]
    assert len(ready) == 2
    for pod in objects("pods", project.namespace, f"pipeline/runid={done.run}"):
        for container in pod["spec"]["containers"]:
            if "system-container-impl" in pod["metadata"]["name"] and container["name"] == "main":
                context = container["securityContext"]
                assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 1000)
                assert context["allowPrivilegeEscalation"] is False


def test_nobody_else_on_the_node_may_change_what_the_steps_wrote(project: Project) -> None:
    found = on_the_node(project, "look-for-modes", f"find {VOLUMES}/* -perm /022 ! -type l; echo looked")
    assert found == "looked\n"


def test_a_run_with_nothing_to_do_ends_after_its_first_step(project: Project) -> None:
    done = project.submit()
    assert (done.status, done.last.split()[:2]) == (0, ["UNCHANGED", f"{deployed[-1]}:"])
    pods = objects("pods", project.namespace, f"pipeline/runid={done.run}")
    assert len(pods) <= 4, [pod["metadata"]["name"] for pod in pods]
    (workflow,) = objects("workflows.argoproj.io", project.namespace, f"pipeline/runid={done.run}")
    began, ended = (datetime.fromisoformat(workflow["status"][key]) for key in ("startedAt", "finishedAt"))
    assert (ended - began).total_seconds() <= NOTHING_TO_DO_SECONDS


def test_a_failed_step_says_why(project: Project) -> None:
    project.change("params.yaml", data={"source": "folder"})
    done = project.submit()
    project.change("params.yaml", data={"source": "sample"})
    assert done.status == 1
    assert "preprocess failed: " in done.err
    assert "images/train is missing: data.source is folder" in done.err
    assert stamp(project) == deployed[-1]


def test_a_pod_that_fits_no_node_ends_the_wait_with_its_cause(project: Project) -> None:
    project.change("project.yaml", kubeflow={"node_selector": {"no-such": "node"}})
    done = project.submit("--timeout", "2")
    project.change("project.yaml", kubeflow={"node_selector": {}})
    assert done.status == 2
    assert "so it was stopped: Unschedulable: " in done.err
    (workflow,) = objects("workflows.argoproj.io", project.namespace, f"pipeline/runid={done.run}")
    assert "activeDeadlineSeconds" in workflow["spec"], "terminated"


def test_a_killed_step_is_named_with_its_memory(project: Project) -> None:
    project.change("params.yaml", train={**QUICK, "seed": 5})
    resources = {"train": {"memory": "64Mi", "memory_limit": "64Mi"}}
    project.change("project.yaml", kubeflow={"resources": resources})
    done = project.submit()
    project.change("project.yaml", kubeflow={"resources": {}})
    project.change("params.yaml", train={**QUICK, "seed": 0})
    assert done.status == 1
    assert "train failed: " in done.err
    assert "memory" in done.err or "OOMKilled" in done.err


def test_a_new_version_is_rolled_out_without_a_lost_request(project: Project, address: str) -> None:
    project.change("params.yaml", train={"epochs": 12}, gate={"on_tie": "replace"})
    with asked(address) as lost:
        done = project.submit()
    assert done.status == 0
    word, version, *_ = done.last.split()
    assert word == "DEPLOYED"
    deployed.append(version.rstrip(":"))
    assert stamp(project) == deployed[-1] != deployed[0]
    assert lost == []


def test_a_rollback_goes_back_without_a_lost_request(project: Project, address: str) -> None:
    with asked(address) as lost:
        kubectl("replace", "--force", "-k", str(project.folder / "infra/torchserve/rollback"))
        kubectl("wait", "job", "rollback", "-n", project.namespace, "--for=condition=Complete", "--timeout=600s")
    assert f"ROLLED BACK to {deployed[0]}" in kubectl("logs", "job/rollback", "-n", project.namespace)
    assert stamp(project) == deployed[0]
    assert lost == []


def test_what_was_rolled_back_is_not_deployed_again(project: Project) -> None:
    done = project.submit()
    assert (done.status, done.last.split()[0]) == (0, "REJECTED")
    assert stamp(project) == deployed[0]


def test_a_schedule_comes_and_goes_and_leaves_its_run_alone(project: Project) -> None:
    project.commit()
    assert project.command("schedule", "--cron", "* * * * *").status == 0
    (schedule,) = objects("scheduledworkflows.kubeflow.org", project.namespace)
    deadline = time.monotonic() + 180
    while not (running := owned(project, schedule["metadata"]["name"])):
        assert time.monotonic() < deadline, "no run was started"
        time.sleep(2)
    refused = project.command("unschedule")
    assert refused.status == 1
    assert "no further run starts, but one is in progress" in refused.err
    assert owned(project, schedule["metadata"]["name"]) == running
    assert project.command("unschedule", "--now").status == 0
    assert objects("scheduledworkflows.kubeflow.org", project.namespace) == []
    assert "RUNNING" not in project.command("status").out


def owned(project: Project, schedule: str) -> list[str]:
    """The workflows of a schedule."""
    return [
        one["metadata"]["name"]
        for one in objects("workflows.argoproj.io", project.namespace)
        if schedule in [owner["name"] for owner in one["metadata"].get("ownerReferences", ())]
    ]


def test_everything_can_be_removed_in_the_documented_order(project: Project) -> None:
    kubectl("delete", "-k", str(project.folder / "infra/torchserve"))
    kubectl("delete", "job", "rollback", "-n", project.namespace, "--ignore-not-found")
    names = [one["metadata"]["name"] for one in objects("workflows.argoproj.io", project.namespace)]
    for name in names:
        if name.startswith(project.settings["name"]):
            kubectl("delete", "workflow", name, "-n", project.namespace)
    kubectl("delete", "-k", str(project.folder / "infra/pv-pvc"), "--timeout=120s")
    left = {one["metadata"]["name"] for one in objects("pvc", project.namespace)}
    assert not left & set(CLAIMS)
