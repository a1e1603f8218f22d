"""The volumes on Kubernetes: three claims, each bound to its own volume only."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from contract.paths import ROOT
from tests.support.kustomized import changed, pod, project_name

FOLDER = ROOT / "infra/pv-pvc"
CLAIMS = {"data": "data-pvc", "model": "train-model-pvc", "deploy-model": "deploy-model-pvc"}

Objects = dict[tuple[str, str], dict[str, Any]]


def objects(text: str) -> Objects:
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}


def built(folder: Path) -> Objects:
    kubectl = Path(sys.executable).with_name("kubectl")  # the one in requirements.txt
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return objects(done.stdout)


def written(folder: Path, *components: str, serving: bool = False) -> Path:
    """A copy with these components, and with serving's own claim."""
    target = Path(shutil.copytree(FOLDER, folder / "pv-pvc", dirs_exist_ok=True))
    text = (FOLDER / "kustomization.yaml").read_text()
    chosen = [f"- components/{name} " for name in components]
    chosen += ["- base/serving ", "- serving-namespace=", "- path: base/serving/"] if serving else []
    for line in chosen:
        assert text.count(f"# {line}") == 1, line
        text = text.replace(f"# {line}", line)
    (target / "kustomization.yaml").write_text(text)
    return target


def setting(name: str) -> str:
    literals = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["configMapGenerator"][0]["literals"]
    values: dict[str, str] = dict(literal.split("=", 1) for literal in literals)
    return values[name]


def test_every_object_is_valid() -> None:
    for one in built(FOLDER).values():
        kubernetes_validate.validate(one, "1.33", strict=True)


def test_every_object_of_the_components_is_valid(tmp_path: Path) -> None:
    for components in (("shared", "training"), ("nfs", "training")):
        for one in built(written(tmp_path, *components)).values():
            kubernetes_validate.validate(one, "1.33", strict=True)


def test_shared_claims_are_of_a_class_that_every_node_mounts(tmp_path: Path) -> None:
    path = written(tmp_path, "shared") / "kustomization.yaml"
    text = path.read_text().replace("storage-class=shared", "storage-class=cephfs").replace("-size=5Gi", "-size=9Gi")
    path.write_text(text.replace("-claim=data", "-claim=digits-data"))
    made = built(path.parent)
    assert not [kind for kind, _ in made if kind == "PersistentVolume"], "the class makes them"
    claims = {name: one for (kind, name), one in made.items() if kind == "PersistentVolumeClaim"}
    assert set(claims) == {"digits-data-pvc", "train-model-pvc", "deploy-model-pvc"}
    for claim in claims.values():
        assert claim["metadata"]["namespace"] == setting("namespace")
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert claim["spec"]["storageClassName"] == "cephfs"
        assert "volumeName" not in claim["spec"]
    assert claims["deploy-model-pvc"]["spec"]["resources"]["requests"]["storage"] == "9Gi"


@pytest.mark.parametrize("volume", CLAIMS)
def test_volumes_of_an_nfs_server_are_bound_as_folders_are(tmp_path: Path, volume: str) -> None:
    path = written(tmp_path, "nfs") / "kustomization.yaml"
    path.write_text(path.read_text().replace("nfs-server=nfs.example", "nfs-server=10.0.0.9"))
    made, name = built(path.parent), f"{project_name()}-{volume}"
    pv, claim = made["PersistentVolume", name]["spec"], made["PersistentVolumeClaim", CLAIMS[volume]]["spec"]
    assert pv["nfs"] == {"server": "10.0.0.9", "path": setting(f"{volume}-path")}
    assert not {"hostPath", "nodeAffinity"} & set(pv), "every node may mount it"
    assert pv["accessModes"] == claim["accessModes"] == ["ReadWriteMany"]
    assert pv["claimRef"]["name"] == CLAIMS[volume]
    assert claim["volumeName"] == name
    assert pv["persistentVolumeReclaimPolicy"] == "Retain"


def test_any_number_of_servers_on_any_node_read_a_shared_claim(tmp_path: Path) -> None:
    claims = built(written(tmp_path / "volumes", "shared"))
    spec = pod(changed(tmp_path, ("autoscaling",)))
    claim = next(one["persistentVolumeClaim"] for one in spec["volumes"] if one["name"] == "deploy-model")
    assert claims["PersistentVolumeClaim", claim["claimName"]]["spec"]["accessModes"] == ["ReadWriteMany"]
    (mount,) = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "deploy-model"]
    assert mount["readOnly"] is True
    assert "nodeSelector" not in spec
    assert len(spec["topologySpreadConstraints"]) == 2


@pytest.mark.parametrize("component", ["shared", "nfs"])
def test_an_overlay_of_a_component_has_its_namespace(tmp_path: Path, component: str) -> None:
    written(tmp_path, component)
    (tmp_path / "overlay").mkdir()
    overlay = {"namespace": "elsewhere", "resources": ["../pv-pvc"]}
    (tmp_path / "overlay/kustomization.yaml").write_text(yaml.safe_dump(overlay))
    made = built(tmp_path / "overlay")
    named = [one["metadata"]["namespace"] for (kind, _), one in made.items() if kind != "PersistentVolume"]
    reserved = [one["spec"]["claimRef"]["namespace"] for (kind, _), one in made.items() if kind == "PersistentVolume"]
    assert {*named, *reserved} == {"elsewhere"}
    assert len(reserved) == (3 if component == "nfs" else 0)


def test_serving_in_its_own_namespace_reads_from_the_nfs_server(tmp_path: Path) -> None:
    made = built(written(tmp_path, "nfs", serving=True))
    pv = made["PersistentVolume", f"{project_name()}-serving"]["spec"]
    assert pv["nfs"] == made["PersistentVolume", f"{project_name()}-deploy-model"]["spec"]["nfs"]
    assert pv["accessModes"] == ["ReadOnlyMany"]
    assert "nodeAffinity" not in pv


def test_serving_in_its_own_namespace_has_no_claim_on_a_volume_of_a_class(tmp_path: Path) -> None:
    """Kubernetes would give it an empty volume, or none."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [kubectl, "kustomize", written(tmp_path, "shared", serving=True)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "spec.hostPath.path" in done.stderr


@pytest.mark.parametrize("volume", CLAIMS)
def test_volume_and_claim_bind_to_each_other_only(volume: str) -> None:
    made, name = built(FOLDER), f"{project_name()}-{volume}"
    pv, pvc = made["PersistentVolume", name]["spec"], made["PersistentVolumeClaim", CLAIMS[volume]]
    assert pvc["metadata"]["namespace"] == setting("namespace")
    assert pv["claimRef"]["namespace"] == setting("namespace")
    assert pv["claimRef"]["name"] == CLAIMS[volume]
    assert pvc["spec"]["volumeName"] == name
    assert pv["storageClassName"] == pvc["spec"]["storageClassName"] == ""
    assert pv["accessModes"] == pvc["spec"]["accessModes"]
    assert pv["capacity"]["storage"] == pvc["spec"]["resources"]["requests"]["storage"] == setting(f"{volume}-size")
    assert pv["persistentVolumeReclaimPolicy"] == "Retain"
    assert pv["hostPath"] == {"path": setting(f"{volume}-path"), "type": "Directory"}
    term = pv["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert term == {"key": "kubernetes.io/hostname", "operator": "In", "values": [setting("node")]}


def test_the_objects_are_three_volumes_and_a_service_account() -> None:
    made = built(FOLDER)
    kinds = sorted(kind for kind, _ in made)
    volumes = ["PersistentVolume"] * 3 + ["PersistentVolumeClaim"] * 3
    assert kinds == [*volumes, "Role", "RoleBinding", "ServiceAccount"]
    assert {one["metadata"]["labels"]["app.kubernetes.io/part-of"] for one in made.values()} == {project_name()}


def test_the_namespace_setting_is_used_everywhere(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "pv-pvc")
    path = tmp_path / "pv-pvc/kustomization.yaml"
    path.write_text(path.read_text().replace(f"namespace={setting('namespace')} ", "namespace=elsewhere "))
    made = built(path.parent)
    namespaced = [one for (kind, _), one in made.items() if kind != "PersistentVolume"]
    assert {one["metadata"]["namespace"] for one in namespaced} == {"elsewhere"}
    claimed = [one["spec"]["claimRef"] for (kind, _), one in made.items() if kind == "PersistentVolume"]
    assert {claim["namespace"] for claim in claimed} == {"elsewhere"}
    binding = next(one for (kind, _), one in made.items() if kind == "RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "train-pipeline", "namespace": "elsewhere"}]


@pytest.mark.parametrize("own", [True, False])
def test_the_namespace_of_an_overlay_reaches_the_volumes_too(tmp_path: Path, own: bool) -> None:
    """Else a volume stays reserved for a claim of the old namespace, and no claim is ever bound."""
    settings = written(tmp_path, serving=own) / "kustomization.yaml"
    if own:
        settings.write_text(re.sub(r"# (- .*base/collect)", r"\1", settings.read_text()))
    (tmp_path / "overlay").mkdir()
    overlay = {"namespace": "elsewhere", "resources": ["../pv-pvc"]}
    (tmp_path / "overlay/kustomization.yaml").write_text(yaml.safe_dump(overlay))
    made = built(tmp_path / "overlay")
    volumes = [one for (kind, _), one in made.items() if kind == "PersistentVolume"]
    assert len(volumes) == (5 if own else 3)
    for volume in volumes:
        reserved = volume["spec"]["claimRef"]
        claim = made["PersistentVolumeClaim", reserved["name"]]
        assert reserved["namespace"] == claim["metadata"]["namespace"] == "elsewhere"
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    binding = next(one for (kind, _), one in made.items() if kind == "RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "train-pipeline", "namespace": "elsewhere"}]


def test_the_names_of_claims_and_account_are_used_everywhere(tmp_path: Path) -> None:
    """As `make pin` writes them where projects share a namespace."""
    shutil.copytree(FOLDER, tmp_path / "pv-pvc")
    path = tmp_path / "pv-pvc/kustomization.yaml"
    text = path.read_text().replace("account=train-pipeline", "account=digits-train-pipeline")
    for claim in CLAIMS.values():
        text = text.replace(f"-claim={claim}", f"-claim=digits-{claim}")
    path.write_text(text)
    made = built(path.parent)
    for volume, claim in CLAIMS.items():
        pv, pvc = (
            made["PersistentVolume", f"{project_name()}-{volume}"],
            made["PersistentVolumeClaim", f"digits-{claim}"],
        )
        assert pv["spec"]["claimRef"]["name"] == f"digits-{claim}"
        assert pvc["spec"]["volumeName"] == f"{project_name()}-{volume}"
        assert pvc["spec"]["resources"]["requests"]["storage"] == setting(f"{volume}-size")
    account = "digits-train-pipeline"
    binding = made["RoleBinding", account]
    assert ("ServiceAccount", account) in made
    assert (binding["roleRef"]["name"], binding["subjects"][0]["name"]) == (account, account)
    assert not [name for _, name in made if name in (*CLAIMS.values(), "train-pipeline")]


def test_pods_have_only_the_rights_that_kubeflow_needs() -> None:
    role = next(one for (kind, _), one in built(FOLDER).items() if kind == "Role")
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    results = {("workflowtaskresults", "create"), ("workflowtaskresults", "patch")}
    assert allowed == results | {("configmaps", "get"), ("secrets", "get")}
    assert all(rule.get("resourceNames") for rule in role["rules"] if rule["apiGroups"] == [""])


def test_pods_may_make_train_jobs_only_with_the_component(tmp_path: Path) -> None:
    def allowed(made: Objects) -> set[tuple[str, str, str]]:
        rules = next(one for (kind, _), one in made.items() if kind == "Role")["rules"]
        return {
            (g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]
        }

    more = allowed(built(written(tmp_path, "training"))) - allowed(built(FOLDER))
    job = {("trainer.kubeflow.org", "trainjobs", verb) for verb in ("create", "get", "delete")}
    assert more == job | {("", "pods", "list"), ("", "pods/log", "get")}


def test_serving_reads_the_deploy_volume_from_its_own_namespace(tmp_path: Path) -> None:
    path = written(tmp_path, serving=True) / "kustomization.yaml"
    made = built(path.parent)
    assert made.items() >= built(FOLDER).items()
    path.write_text(path.read_text().replace("serving-claim=serving", "serving-claim=digits-serving"))
    prefixed = built(path.parent)
    assert ("PersistentVolumeClaim", "digits-serving-model-pvc") in prefixed
    assert prefixed["PersistentVolume", f"{project_name()}-serving"]["spec"]["claimRef"]["name"].startswith("digits-")
    pv = made["PersistentVolume", f"{project_name()}-serving"]["spec"]
    pvc = made["PersistentVolumeClaim", "serving-model-pvc"]
    assert pvc["metadata"]["namespace"] == pv["claimRef"]["namespace"] == "serving"
    assert (pv["claimRef"]["name"], pvc["spec"]["volumeName"]) == ("serving-model-pvc", f"{project_name()}-serving")
    assert pv["accessModes"] == pvc["spec"]["accessModes"] == ["ReadOnlyMany"]
    deployed = made["PersistentVolume", f"{project_name()}-deploy-model"]["spec"]
    assert all(pv[key] == deployed[key] for key in ("hostPath", "nodeAffinity", "capacity", "storageClassName"))
    for one in made.values():
        kubernetes_validate.validate(one, "1.33", strict=True)


def test_what_serving_keeps_has_a_claim_of_its_own(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "pv-pvc")
    path = tmp_path / "pv-pvc/kustomization.yaml"
    text = re.sub(r"# (- .*base/collect)", r"\1", path.read_text())
    text = text.replace("collect-namespace=kubeflow", "collect-namespace=serving")
    path.write_text(text.replace("collect-claim=collect-pvc", "collect-claim=digits-collect-pvc"))
    made = built(path.parent)
    assert made.items() >= built(FOLDER).items()
    name = f"{project_name()}-collect"
    pv, pvc = made["PersistentVolume", name]["spec"], made["PersistentVolumeClaim", "digits-collect-pvc"]
    assert pv["claimRef"] == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "name": "digits-collect-pvc",
        "namespace": "serving",
    }
    assert (pvc["metadata"]["namespace"], pvc["spec"]["volumeName"]) == ("serving", name)
    assert pv["hostPath"]["path"] == setting("collect-path") not in {setting(f"{each}-path") for each in CLAIMS}
    assert pv["capacity"]["storage"] == pvc["spec"]["resources"]["requests"]["storage"] == setting("collect-size")
    assert pv["accessModes"] == pvc["spec"]["accessModes"] == ["ReadWriteOnce"]
    for one in made.values():
        kubernetes_validate.validate(one, "1.33", strict=True)
