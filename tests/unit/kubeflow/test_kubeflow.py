"""The client of Kubeflow: retries, namespaces, schedules and lists, against a strict stand-in of its API."""

import threading
from typing import Any

import pytest

from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.compile import write_package
from pipeline.kubeflow.errors import KubeflowError, LoginError, TransientError
from pipeline.kubeflow.schedule import ScheduledRunError, schedule, unschedule
from pipeline.kubeflow.submit import submit
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.kubeflow_project import DEPLOYED, GATED, PARAMS, PROJECT, Run, made

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def connected(server: Server) -> Kubeflow:
    return Kubeflow(f"http://{server.address}", "right", None, backoff=0.01)


@pytest.mark.parametrize("trouble", [[500], [503, 503, 503], [502, 504], [0], [0, 500, 0, 503]])
def test_a_transient_error_is_retried(connected: Kubeflow, kfp: Kfp, trouble: list[int]) -> None:
    kfp.trouble = list(trouble)
    connected.check()
    assert kfp.trouble == []


def test_a_lasting_error_is_raised_after_the_retries(connected: Kubeflow, kfp: Kfp) -> None:
    kfp.trouble = [503] * 9
    with pytest.raises(TransientError, match=" fails .503: trouble."):
        connected.check()
    assert len(kfp.trouble) == 4  # and one is not asked for ever


@pytest.mark.parametrize(
    "trouble", [503, *(pytest.param(status, marks=pytest.mark.slow) for status in (500, 502, 504))]
)
def test_a_creation_whose_answer_was_lost_is_not_repeated(connected: Kubeflow, kfp: Kfp, trouble: int) -> None:
    for _ in range(2):  # the second finds pipeline, version and experiment, and makes but a run
        kfp.late = [trouble] * 4
        submit(connected, PROJECT, PARAMS, "revision")
    assert made(kfp) == [1, 1, 1, 2, 0]
    kfp.late = [trouble]
    assert schedule(connected, PROJECT, PARAMS, "revision", "0 0 3 * * *") == "created"
    assert len(kfp.recurring) == 1


@pytest.mark.parametrize("trouble", [0, pytest.param(503, marks=pytest.mark.slow)])
def test_a_failed_creation_is_retried(connected: Kubeflow, kfp: Kfp, trouble: int) -> None:
    answer, posts = kfp.answer, []

    def troubled(method: str, url: str, *rest: Any) -> Any:
        posts.append(method)
        if method == "POST" and posts.count("POST") % 2:
            kfp.trouble = [trouble]
        return answer(method, url, *rest)

    kfp.answer = troubled  # type: ignore[method-assign]
    submit(connected, PROJECT, PARAMS, "revision")
    assert made(kfp) == [1, 1, 1, 1, 0]
    assert posts.count("POST") == 8


def test_two_submissions_at_once_share_pipeline_and_experiment(connected: Kubeflow, kfp: Kfp) -> None:
    lister, looked = kfp._paged, []

    def too_early(field: str, rows: list[Any], query: Any) -> Any:
        looked.append(field)
        return lister(field, rows if looked.count(field) > 1 else [], query)

    submit(connected, PROJECT, PARAMS, "revision")
    kfp._paged = too_early  # type: ignore[method-assign]
    submit(connected, PROJECT, PARAMS, "revision")
    assert made(kfp) == [1, 1, 1, 2, 0]


def test_a_refused_connection_is_retried(kfp: Kfp) -> None:
    with Server(kfp) as gone:
        pass
    port = int(gone.address.rpartition(":")[2])
    later = threading.Timer(0.15, lambda: running.append(Server(kfp, port).__enter__()))
    running: list[Server] = []
    later.start()
    try:
        Kubeflow(f"http://{gone.address}", "right", None, backoff=0.1).check()
    finally:
        later.join()
        running[0].__exit__()


def test_there_is_at_most_one_recurring_run(server: Server, kfp: Kfp) -> None:
    kfp.page = 1
    connected = Kubeflow(f"http://{server.address}", "right", None)
    made = (connected, PROJECT, PARAMS, "revision")
    assert [schedule(*made, "0 0 3 * * *") for _ in range(2)] == ["created", "unchanged"]
    (first,) = kfp.recurring
    assert (first["trigger"]["cron_schedule"]["cron"], first["max_concurrency"]) == ("0 0 3 * * *", "1")
    assert first["no_catchup"] is True
    assert schedule(*made, "0 30 4 * * *") == "updated"
    (second,) = kfp.recurring
    assert second["recurring_run_id"] != first["recurring_run_id"]
    assert [unschedule(connected, PROJECT) for _ in range(2)] == [1, 0]
    assert (kfp.recurring, kfp.runs) == ([], [])


def test_a_schedule_is_not_removed_under_its_run(server: Server, kfp: Kfp) -> None:
    """Kubernetes would delete the workflow of the run with it, and the run would say RUNNING for ever."""
    connected = Kubeflow(f"http://{server.address}", "right", None)
    schedule(connected, PROJECT, PARAMS, "revision", "0 0 3 * * *")
    running = kfp.fire(kfp.recurring[0], look("RUNNING", train="RUNNING"))
    kfp.fire(kfp.recurring[0], look("SUCCEEDED"))
    with pytest.raises(ScheduledRunError, match=f"details/{running['run_id']}; make unschedule again .* NOW=1"):
        unschedule(connected, PROJECT)
    assert [one["status"] for one in kfp.recurring] == ["DISABLED"]
    assert running["state"] == "RUNNING"
    running["state"], running["script"] = "SUCCEEDED", [{"state": "SUCCEEDED"}]
    assert unschedule(connected, PROJECT) == 1
    assert kfp.recurring == []


def test_a_schedule_is_removed_now_after_its_run_was_stopped(
    server: Server, kfp: Kfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = Kubeflow(f"http://{server.address}", "right", None)
    schedule(connected, PROJECT, PARAMS, "revision", "0 0 3 * * *")
    running, states = kfp.fire(kfp.recurring[0], look("RUNNING", train="RUNNING")), []
    delete = kfp._delete_recurring

    def seen(id: str, **more: Any) -> Any:
        states.append(running["state"])
        return delete(id, **more)

    kfp._delete_recurring = seen  # type: ignore[method-assign]
    monkeypatch.setattr("pipeline.kubeflow.schedule._POLL_SECONDS", 0.01)
    ended = threading.Timer(0.3, lambda: running.update(state="FAILED"))
    ended.start()
    assert unschedule(connected, PROJECT, now=True) == 1
    ended.join()
    assert (kfp.recurring, states) == ([], ["FAILED"])


@pytest.mark.slow
def test_a_changed_schedule_leaves_the_run_of_the_former_one_alone(server: Server, kfp: Kfp) -> None:
    connected = Kubeflow(f"http://{server.address}", "right", None)
    changed = (connected, PROJECT, PARAMS, "revision", "0 0 4 * * *")
    schedule(connected, PROJECT, PARAMS, "revision", "0 0 3 * * *")
    running = kfp.fire(kfp.recurring[0], look("RUNNING", train="RUNNING"))
    assert schedule(*changed) == "updated"
    assert [one["status"] for one in kfp.recurring] == ["DISABLED", "ENABLED"]
    running["state"] = "SUCCEEDED"
    assert schedule(*changed) == "unchanged"
    assert [one["status"] for one in kfp.recurring] == ["ENABLED"]


@pytest.mark.slow
def test_schedule_and_unschedule_are_commands(run: Run, kfp: Kfp) -> None:
    assert run("schedule", "--cron", "0 3 * * *").stdout.startswith("schedule created: ")
    assert [one["trigger"]["cron_schedule"]["cron"] for one in kfp.recurring] == ["0 0 3 * * *"]
    assert run("unschedule").stdout == "schedule removed\n"
    assert kfp.recurring == []


@pytest.mark.slow
def test_status_lists_the_last_runs_with_their_verdicts(run: Run, kfp: Kfp, server: Server) -> None:
    assert run("status").stdout.startswith("no run of ")
    connected = Kubeflow(f"http://{server.address}", "right", None)
    failed, running = look("FAILED", error="no node"), look("RUNNING", train="RUNNING")
    for end in (DEPLOYED[1], look("SUCCEEDED", **GATED), failed, running):
        kfp.script = [end]
        connected.run(submit(connected, PROJECT, PARAMS, "revision"))
    kfp.page = 10
    lines = run("status").stdout.splitlines()
    assert [line.split("  ")[2] for line in lines] == ["RUNNING", "FAILED", "REJECTED", "DEPLOYED"]
    assert lines[1].endswith("no node")
    assert lines[3].endswith("abc: good enough")


def test_the_page_of_a_run_is_one_that_exists(server: Server, kfp: Kfp) -> None:
    """Behind `kubectl port-forward svc/ml-pipeline` there is the API alone."""
    host = f"http://{server.address}"
    assert Kubeflow(host, "right", None).ui("r1") == f"{host}/#/runs/details/r1"
    kfp.has_pages = False
    told = Kubeflow(host, "right", None).ui("r1")
    assert told.startswith(
        "run r1; kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80 shows it at http://local"
    )
    assert host not in told


def test_a_server_that_is_down_is_named() -> None:
    with pytest.raises(TransientError, match="does not answer .*refused"):
        Kubeflow("http://127.0.0.1:9", None, None, backoff=0.001)


def test_another_kind_of_server_is_refused(server: Server) -> None:
    with pytest.raises(KubeflowError, match="is the address of a Kubeflow Pipelines server"):
        Kubeflow(f"http://{server.address}/elsewhere", "right", None)


def test_a_multi_user_server_needs_a_namespace(server: Server, kfp: Kfp) -> None:
    kfp.namespaces = ("mine",)
    host = f"http://{server.address}"
    with pytest.raises(KubeflowError, match="set --namespace or KFP_NAMESPACE"):
        Kubeflow(host, "right", None)
    with pytest.raises(LoginError, match="the namespace 'other'.* set KFP_NAMESPACE to one that exists"):
        Kubeflow(host, "right", "other").check()
    Kubeflow(host, "right", "mine").experiment("x")
    assert kfp.experiments[0]["namespace"] == "mine"


def test_a_single_user_server_gets_no_namespace(server: Server, kfp: Kfp) -> None:
    Kubeflow(f"http://{server.address}", "right", "any").experiment("x")
    assert "namespace" not in kfp.experiments[0]


def test_the_stand_in_is_strict(server: Server, kfp: Kfp) -> None:
    import requests

    kfp.pipelines.append({"name": "a", "pipeline_id": "1", "display_name": "a"})
    url, login = f"http://{server.address}/apis/v2beta1", {"Authorization": "Bearer right"}
    asked: list[tuple[int, str, str, Any]] = [
        (401, "GET", f"{url}/runs", {"headers": {}}),
        (404, "GET", f"{url}/nothing", {}),
        (405, "DELETE", f"{url}/pipelines", {}),
        (400, "GET", f"{url}/runs?size=3", {}),
        (409, "POST", f"{url}/pipelines", {"json": {"name": "a", "display_name": "a"}}),
        (400, "POST", f"{url}/pipelines", {"json": {"name": "b"}}),
        (400, "POST", f"{url}/experiments", {"json": {"display_name": "b", "experiment_id": "1"}}),
        (404, "GET", f"{url}/runs/1", {}),
    ]
    got = [requests.request(method, to, timeout=9, **{"headers": login, **more}) for _, method, to, more in asked]
    assert [answer.status_code for answer in got] == [status for status, *_ in asked]
    assert all(set(answer.json()) == {"code", "message", "details"} for answer in got)


@pytest.mark.slow  # it compiles nine packages
def test_a_version_is_what_runs(connected: Kubeflow, kfp: Kfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commit with other images, pods or parameters is another version, and the same is none."""
    monkeypatch.setattr("pipeline.kubeflow.submit.write_package", write_package)
    for name in ("TORCH", "BASE_IMAGE", "PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    pods = PROJECT.kubeflow
    projects = [PROJECT, PROJECT.model_copy(update={"registry": "other:5000"})]
    projects.append(PROJECT.model_copy(update={"kubeflow": pods.model_copy(update={"gpus": 1})}))
    for project in [*projects, *projects]:
        submit(connected, project, PARAMS, "revision")
    train = PARAMS.train.model_copy(update={"epochs": 1})
    submit(connected, PROJECT, PARAMS.model_copy(update={"train": train}), "revision")
    monkeypatch.setenv("TORCH", "cuda")
    submit(connected, PROJECT, PARAMS, "revision")
    submit(connected, PROJECT, PARAMS, "later")
    names = [version["name"] for version in kfp.versions]
    assert len(set(names)) == len(names) == 6
    assert [name.partition("-")[0] for name in names] == ["revision"] * 5 + ["later"]
    assert "commit revision, branch " in kfp.versions[0]["description"]


@pytest.mark.slow
def test_the_same_package_of_another_process_is_the_same_version(run_anew: Run, kfp: Kfp) -> None:
    done = [run_anew("submit", PYTHONHASHSEED=seed).returncode for seed in ("1", "2")]
    assert done == [0, 0]
    assert made(kfp) == [1, 1, 1, 2, 0]
