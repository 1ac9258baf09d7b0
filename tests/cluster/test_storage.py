"""Where servers keep their models, on a real Kubernetes: kept, grown, mended, never shared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ollama_fleet.kube.kinds import (
    DAEMON_SET,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    SERVICE,
    STATEFUL_SET,
    STORAGE_CLASS,
    Object,
)
from tests.cluster.audit import Audit
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import SMALL, Fleet, Registry, distribution, ollama_node, standing
from tests.cluster.waiting import eventually

MakeClass = Callable[..., str]


@pytest.fixture
def make_class(fleet: Fleet) -> Iterator[MakeClass]:
    """Makes StorageClasses of the test's own, by the cluster's provisioner."""
    made = set()

    def make(name: str, **fields: bool) -> str:
        made.add(name)
        fleet.apply(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": "ollamafleet.dev/folders",
                **fields,
            }
        )
        return name

    yield make
    for name in made:
        fleet.delete(STORAGE_CLASS, name)


def claims(fleet: Fleet) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in fleet.all(PERSISTENT_VOLUME_CLAIM)}


def sizes(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """What each claim asks for and has."""
    return {
        name: (
            one["spec"]["resources"]["requests"]["storage"],
            one["status"]["capacity"]["storage"],
        )
        for name, one in claims(fleet).items()
        if "capacity" in one["status"]
    }


def lives(fleet: Fleet, name: str = "a") -> set[tuple[str, int]]:
    """Each pod's uid and how often it was restarted."""
    return {
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in fleet.pods(name)
    }


def installed(fleet: Fleet, name: str = "a") -> list[list[str]]:
    return [list(fleet.emulator(pod).installed()) for pod in fleet.pods(name)]


def well(obj: Object) -> bool:
    now = standing(obj)
    return now is not None and now.ready and not now.stalled


def resize(fleet: Fleet, size: str) -> None:
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"storage": {"size": size}}})


def test_volumes_grow_under_running_servers(fleet: Fleet) -> None:
    fleet.apply(ollama_node(replicas=2, storage={"size": "1Gi"}), distribution("m", SMALL))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    before = lives(fleet)
    resize(fleet, "2Gi")
    grown = {"models-a-0": ("2Gi", "2Gi"), "models-a-1": ("2Gi", "2Gi")}
    eventually("both have grown", lambda: sizes(fleet) == grown)
    eventually(
        "it is told",
        lambda: fleet.ready(OLLAMA_NODE, "a")["status"]["volumeSize"] == "2Gi",
    )
    assert lives(fleet) == before
    assert installed(fleet) == [[SMALL], [SMALL]]
    with pytest.raises(AssertionError, match=r"size cannot shrink.*status\.volumeSize"):
        resize(fleet, "1Gi")
    # the template of claims cannot change: the third is made with 1Gi
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"replicas": 3}})
    eventually("the third has grown", lambda: sizes(fleet).get("models-a-2") == ("2Gi", "2Gi"))
    fleet.ready(OLLAMA_NODE, "a")
    patches = [call.name for call in fleet.writes() if call.resource == "persistentvolumeclaims"]
    assert sorted(patches) == ["models-a-0", "models-a-1", "models-a-2"]


def test_volumes_that_cannot_grow_say_so_and_how_to_go_on(
    fleet: Fleet, make_class: MakeClass
) -> None:
    rigid = make_class(f"rigid-{fleet.namespace}")
    storage = {"size": "1Gi", "storageClassName": rigid}
    fleet.apply(ollama_node(storage=storage))
    fleet.ready(OLLAMA_NODE, "a")
    resize(fleet, "2Gi")
    message = fleet.stalls(OLLAMA_NODE, "a", "VolumeNotExpandable")
    assert f"StorageClass {rigid} lets none grow. Set spec.storage.size back to 1Gi" in message
    now = standing(fleet.ready(OLLAMA_NODE, "a"))
    assert now is not None
    assert now.stalled
    resize(fleet, "1Gi")
    fleet.until(OLLAMA_NODE, "a", well)
    resize(fleet, "2Gi")
    fleet.stalls(OLLAMA_NODE, "a", "VolumeNotExpandable")
    assert sizes(fleet) == {"models-a-0": ("1Gi", "1Gi")}
    make_class(rigid, allowVolumeExpansion=True)
    fleet.until(OLLAMA_NODE, "a", well)
    assert sizes(fleet) == {"models-a-0": ("2Gi", "2Gi")}


def test_what_kubernetes_says_against_growing_is_quoted(fleet: Fleet) -> None:
    fleet.apply(ollama_node(storage={"size": "1Gi"}))
    fleet.ready(OLLAMA_NODE, "a")
    quotas = f"/api/v1/namespaces/{fleet.namespace}/resourcequotas"
    quota = {"metadata": {"name": "quota"}, "spec": {"hard": {"requests.storage": "1Gi"}}}
    fleet.api.call("POST", quotas, quota)
    eventually(
        "the quota is in force",
        lambda: fleet.api.call("GET", f"{quotas}/quota").get("status", {}).get("used"),
    )
    resize(fleet, "2Gi")
    message = fleet.stalls(OLLAMA_NODE, "a", "VolumeNotExpandable")
    assert "volume models-a-0 has 1Gi, and Kubernetes will not let it grow" in message
    assert "exceeded quota: quota, requested: requests.storage=1Gi" in message
    assert "Set spec.storage.size back to 1Gi, or mend that." in message
    resize(fleet, "1Gi")
    fleet.until(OLLAMA_NODE, "a", well)
    assert {call.name for call in fleet.denied()} == {"models-a-0"}
    fleet.audit = Audit(fleet.cluster)


def test_a_missing_storage_class_is_named_until_it_is_there(
    fleet: Fleet, make_class: MakeClass
) -> None:
    missing = f"missing-{fleet.namespace}"
    fleet.apply(ollama_node(storage={"size": "1Gi", "storageClassName": missing}))
    message = fleet.stalls(OLLAMA_NODE, "a", "VolumeUnbound")
    assert f"claim models-a-0 wants StorageClass {missing}; there are" in message
    assert "local (default)" in message
    make_class(missing)
    fleet.ready(OLLAMA_NODE, "a")
    fleet.tells(OLLAMA_NODE, "a", "VolumeUnbound", "Ready")


def test_a_claim_is_waited_for_and_has_one_writer(fleet: Fleet) -> None:
    fleet.apply(ollama_node("a", storage={"existingClaim": "kept"}))
    message = fleet.stalls(OLLAMA_NODE, "a", "VolumeUnbound")
    assert f"no PersistentVolumeClaim kept in namespace {fleet.namespace}. Make it" in message
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    fleet.apply(claim, distribution("m", SMALL))
    fleet.ready(OLLAMA_NODE, "a")
    fleet.ready(MODEL_DISTRIBUTION, "m")
    fleet.apply(ollama_node("b", storage={"existingClaim": "kept"}))
    message = fleet.stalls(OLLAMA_NODE, "b", "StoreShared")
    assert f"claim kept is the store of OllamaNode {fleet.namespace}/a" in message
    assert fleet.get(STATEFUL_SET, "b") is None
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"replicas": 0}})
    fleet.ready(OLLAMA_NODE, "b")
    assert installed(fleet, "b") == [[SMALL]]
    assert not fleet.pods("a")


def test_folders_of_a_machine_are_the_servers_own_and_one_for_each(fleet: Fleet) -> None:
    folder = f"/srv/{fleet.namespace}"
    machine = {"nodeSelector": {"kubernetes.io/hostname": "gpu-24g"}}
    disk = fleet.cluster.directory / "disks" / "gpu-24g"
    fleet.apply(
        ollama_node("a", replicas=2, storage={"hostPath": folder}, template=machine),
        distribution("m", SMALL),
    )
    fleet.ready(MODEL_DISTRIBUTION, "m")
    own = [disk / folder[1:] / fleet.namespace / f"a-{number}" for number in range(2)]
    assert [(one / "models" / "manifests").is_dir() for one in own] == [True, True]
    assert {owner(one) for one in own} == {65532 if os.geteuid() == 0 else os.geteuid()}

    every = {"perNode": {}, "template": machine}
    fleet.apply(ollama_node("b", storage={"hostPath": f"{folder}/{fleet.namespace}"}, **every))
    message = fleet.stalls(OLLAMA_NODE, "b", "StoreShared")
    assert f"hostPath {folder} is the store of OllamaNode {fleet.namespace}/a" in message
    assert fleet.get(DAEMON_SET, "b") is None
    fleet.patch(OLLAMA_NODE, "b", {"spec": {"storage": {"hostPath": f"{folder}-b"}}})
    fleet.ready(OLLAMA_NODE, "b")
    assert owner(disk / f"{folder[1:]}-b") == owner(own[0])

    # its pods outlive a DaemonSet by their grace: the next one waits for them
    fleet.delete(DAEMON_SET, "b")
    fleet.until(OLLAMA_NODE, "b", lambda obj: waits(obj, "its earlier pod b-"))
    assert fleet.get(DAEMON_SET, "b") is None
    fleet.ready(OLLAMA_NODE, "b")


def waits(obj: Object, whom: str) -> bool:
    now = standing(obj)
    return now is not None and now.reason == "StoreShared" and f"waits for {whom}" in now.message


def owner(folder: Path) -> int:
    return folder.stat().st_uid


def test_models_outlive_servers_that_are_scaled_away_and_deleted(
    fleet: Fleet, registry: Registry, kubectl: Kubectl
) -> None:
    node = ollama_node(replicas=2, storage={"size": "1Gi"})
    fleet.apply(node, distribution("m", SMALL))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    pulled = registry.served()
    kubectl("scale", "ollamanode/a", "--replicas=1", "-n", fleet.namespace)
    fleet.gone(POD, "a-1")
    kubectl("scale", "ollamanode/a", "--replicas=2", "-n", fleet.namespace)
    eventually("it is back", lambda: len(fleet.pods("a")) == 2)
    fleet.ready(OLLAMA_NODE, "a")
    eventually("all have the model", lambda: installed(fleet) == [[SMALL], [SMALL]])

    fleet.delete(OLLAMA_NODE, "a")
    # Kubernetes' collector of garbage learns of new kinds of owners every 30 s.
    for kind, name in ((STATEFUL_SET, "a"), (SERVICE, "a-servers"), (POD, "a-0"), (POD, "a-1")):
        fleet.gone(kind, name, within=90)
    kept = claims(fleet).values()
    assert [one["metadata"]["name"] for one in kept] == ["models-a-0", "models-a-1"]
    assert not any(one["metadata"].get("deletionTimestamp") for one in kept)
    fleet.apply(node)
    fleet.ready(OLLAMA_NODE, "a")
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert installed(fleet) == [[SMALL], [SMALL]]
    assert registry.served() == pulled
