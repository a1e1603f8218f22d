"""A rollout that is killed is finished, or taken back, by the next run."""

import subprocess
import sys

import pytest

from contract.paths import ROOT
from steps.deploy.__main__ import main
from steps.deploy.release import rollout
from steps.deploy.release.switch import RolledBackError
from tests.stand_ins.kubernetes import Cluster, waiting
from tests.support.switching import log, pointed, serve

KILLED = """
import os, signal, sys
from steps.deploy import __main__
from steps.deploy.release import rollout
rollout.POLL_SECONDS = 0.02
moment, words = sys.argv[1], sys.argv[2:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if moment == "before the stamp":
    rollout.Rollout.set_template = die
elif moment == "while pods come":
    rollout.Rollout._reasons = die
elif moment == "before the questions":
    rollout.ask = die
sys.exit(__main__.main(words))
"""


@pytest.mark.parametrize("moment", ["before the stamp", "while pods come", "before the questions", "never"])
@pytest.mark.parametrize("then", ["well", "broken"])
def test_a_rollback_killed_at_any_moment_is_finished_or_taken_back_by_the_next(
    cluster: Cluster, moment: str, then: str
) -> None:
    serve("v1")
    serve("v2")
    command = [sys.executable, "-c", KILLED, moment, "rollback"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if moment == "never" else -9), done.stderr
    if moment == "never":
        assert done.stdout.splitlines()[-1] == "ROLLED BACK to v1 (was v2)"
    assert pointed()["version"] == "v1"
    if then == "broken" and moment != "never":
        cluster.broken["v1"] = waiting("ImagePullBackOff", "")
        for pod in cluster.pods:
            pod.ready = pod.ready and pod.version == "v2"
        assert main(["rollback", "--version", "v1"]) == 1
        assert (cluster.stamp, log()[-1]) == ("v2", ("undone", "v2"))
        assert pointed()["version"] == "v2"
        return
    assert main(["rollback", "--version", "v1"]) == 0
    assert (cluster.stamp, log()[-1]) == ("v1", ("rolled-back", "v1"))
    assert len(log()) == 3
    assert "rollout" not in pointed()


def test_after_a_kill_what_fails_next_goes_back_to_what_was_confirmed_last(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("v1")
    with monkeypatch.context() as patch:
        patch.setattr(rollout.Rollout, "roll", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            serve("v2")
    cluster.broken["v3"] = waiting("ImagePullBackOff", "")
    with pytest.raises(RolledBackError, match="v3 was not rolled out, and v1 is served as before"):
        serve("v3")
    assert cluster.stamp == "v1"
    assert log() == [("deployed", "v1"), ("deployed", "v2"), ("deployed", "v3"), ("undone", "v1")]
