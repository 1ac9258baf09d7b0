from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.times import rfc3339
from ollama_fleet.plan.unbound import look_again
from ollama_fleet.plan.volumes import Volumes, by_name
from tests.unit.plan.objects import NOW, Object, machine, pod, resource

UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims"
AFFINITY = "0/3 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity"
GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu"
NEW, OLD = NOW - timedelta(seconds=10), NOW - timedelta(seconds=90)
SELECTED = {"volume.kubernetes.io/selected-node": "gpu-a"}


def storage_class(name: str, **fields: Any) -> Object:
    marks = {"storageclass.kubernetes.io/is-default-class": "true"} if name == "standard" else {}
    return {"metadata": {"name": name, "annotations": marks}, "provisioner": "csi", **fields}


WAITS = {"volumeBindingMode": "WaitForFirstConsumer"}
CLASSES = by_name(
    [
        storage_class("standard"),
        storage_class("late", **WAITS),
        storage_class("by-hand", provisioner="kubernetes.io/no-provisioner"),
    ]
)
PLAIN = by_name([storage_class("fast"), storage_class("late")])


def claim(
    storage_class: str | None = "standard",
    phase: str = "Pending",
    made: Any = OLD,
    name: str = "models-a-0",
    annotations: Any = None,
    **spec: Any,
) -> Object:
    chosen = {} if storage_class is None else {"storageClassName": storage_class}
    resources = {"requests": {"storage": "50Gi"}}
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": rfc3339(made),
            "annotations": annotations or {},
        },
        "spec": {"resources": resources, "accessModes": ["ReadWriteOnce"], **chosen, **spec},
        "status": {"phase": phase},
    }


def waiting(said: str | None = UNBOUND, on: str | None = None) -> Object:
    made = pod("a-0", on=on, ready=False)
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": said,
    }
    made["status"] = {"phase": "Pending", "conditions": [refused] if said else []}
    return made


def told(
    volumes: Volumes, pod_: Object | None = None, storage: Any = None
) -> tuple[str, str, float | None]:
    """The reason, the message, and when it is looked again."""
    node = resource("OllamaNode", "a", {"replicas": 1, "storage": storage or {"size": "50Gi"}})
    seen = Observed(
        {"spec": {}, "status": {}}, (pod_ or waiting(),), {"gpu-a": machine("gpu-a")}, {}
    )
    plan = plan_ollamanode(node, replace(seen, volumes=volumes), NOW)
    ready = plan.status["conditions"][0]
    return ready["reason"], ready["message"], plan.requeue_after


def of(*claims: Object, classes: Any = CLASSES, users: tuple[Object, ...] = ()) -> Volumes:
    return Volumes(by_name(claims), classes, users)


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        (
            of(claim("fastt", made=NEW)),
            "claim models-a-0 wants StorageClass fastt; there are by-hand, late, standard "
            "(default). Make that one, or delete the OllamaNode and this claim, which holds "
            "nothing yet, and make it anew with another spec.storage.storageClassName.",
        ),
        (of(claim("fast", made=NEW), classes={}), "wants StorageClass fast; the cluster has none."),
        (
            of(claim(None, made=NEW), classes=PLAIN),
            "claim models-a-0 names no StorageClass, and none is the cluster's default: there are "
            "fast, late. Mark one: kubectl annotate storageclass NAME storageclass.kubernetes.io/",
        ),
        (
            of(claim("", made=NEW)),
            "waits for a PersistentVolume without a class of at least 50Gi, and nothing makes one",
        ),
        (of(claim("by-hand", made=NEW)), "PersistentVolume of class by-hand of at least 50Gi"),
        (
            of(claim(made=OLD)),
            "claim models-a-0 has waited for 60 s for a volume of StorageClass standard. Does its "
            "provisioner csi run? See: kubectl describe pvc models-a-0",
        ),
        (of(claim("late", annotations=SELECTED)), "for a volume of StorageClass late. Does its"),
        (of(claim(volumeName="pv-7")), "waits for the PersistentVolume pv-7, which is not there"),
        (of(claim(phase="Lost", volumeName="pv-7")), "has lost its volume pv-7"),
        (of(claim(), classes=None), "unbound immediate PersistentVolumeClaims. Check spec.storage"),
    ],
)
def test_a_claim_without_a_volume_says_why_and_what_to_do(volumes: Volumes, words: str) -> None:
    reason, message, _ = told(volumes)
    assert reason == "VolumeUnbound"
    assert words in message


@pytest.mark.parametrize("said", [UNBOUND, None])
def test_making_a_volume_may_take_a_while(said: str | None) -> None:
    volumes = of(claim(made=NEW, annotations=SELECTED))
    assert told(volumes, waiting(said)) == ("Progressing", "0 of 1 servers ready", 50.0)
    assert told(of(claim(made=OLD, annotations=SELECTED)), waiting(said))[0] == "VolumeUnbound"


def test_what_the_scheduler_said_before_the_claim_was_bound_is_old_news() -> None:
    assert told(of(claim(phase="Bound")))[0] == "Progressing"
    # the volume is named first, the phase follows
    binding = claim(volumeName="pv-7", annotations={"pv.kubernetes.io/bind-completed": "yes"})
    assert told(of(binding))[0] == "Progressing"


def test_a_volume_that_waits_for_the_scheduler_is_not_what_is_wrong() -> None:
    reason, message, _ = told(of(claim("late")), waiting(GPU))
    assert reason == "Unschedulable"
    assert "GPU" in message


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        (
            SELECTED,
            "the volume of claim models-a-0 lies on gpu-a, and the pod must too: 0 of 1 GPU",
        ),
        ({}, "the volume of claim models-a-0 cannot be reached from every machine, and the pod"),
    ],
)
def test_where_the_volume_lies_is_told_with_why_that_machine_refuses(
    annotations: Any, words: str
) -> None:
    bound = claim(phase="Bound", annotations=annotations)
    reason, message, _ = told(of(bound), waiting(AFFINITY))
    assert reason == "Unschedulable"
    assert message.startswith(words)


EXISTING = {"existingClaim": "kept"}


def user(on: str | None, name: str = "copier") -> Object:
    made = pod(name, on=on)
    made["spec"]["volumes"] = [{"name": "x", "persistentVolumeClaim": {"claimName": "kept"}}]
    return made


@pytest.mark.parametrize(
    ("volumes", "pod_", "words"),
    [
        (
            of(),
            waiting('persistentvolumeclaim "kept" not found'),
            "there is no PersistentVolumeClaim kept in namespace llm. Make it, or write another",
        ),
        (
            of(claim("fast", name="kept", made=NEW)),
            waiting(),
            "claim kept wants StorageClass fast; there are by-hand, late, standard (default). Make "
            "that one, or make the claim anew with another.",
        ),
        (
            of(claim(name="kept", phase="Bound", accessModes=["ReadOnlyMany"])),
            waiting(None, on="gpu-a"),
            "claim kept can only be read",
        ),
        (
            of(claim(name="kept", phase="Bound"), users=(user("gpu-b"),)),
            waiting(None, on="gpu-a"),
            "claim kept can be used on one machine at a time: pod copier has it on gpu-b, and a-0 "
            "is on gpu-a. Delete that pod, or write another spec.storage.existingClaim.",
        ),
    ],
)
def test_a_named_claim_that_cannot_be_had(volumes: Volumes, pod_: Object, words: str) -> None:
    reason, message, again = told(volumes, pod_, EXISTING)
    assert reason == "VolumeUnbound"
    assert words in message
    assert again == 30.0


def test_a_claim_that_is_being_deleted_is_told() -> None:
    going = claim(name="kept", phase="Bound")
    going["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    _, message, _ = told(
        of(going), waiting('persistentvolumeclaim "kept" is being deleted'), EXISTING
    )
    assert "claim kept is being deleted" in message


@pytest.mark.parametrize(
    ("users", "modes"),
    [
        ((user("gpu-a"),), ["ReadWriteOnce"]),
        ((user(None),), ["ReadWriteOnce"]),
        ((user("gpu-b"),), ["ReadWriteMany"]),
        ((), ["ReadWriteOnce"]),
    ],
)
def test_a_claim_that_can_be_had_is_no_trouble(users: tuple[Object, ...], modes: list[str]) -> None:
    bound = claim(name="kept", phase="Bound", accessModes=modes)
    assert told(of(bound, users=users), waiting(None, on="gpu-a"), EXISTING)[0] == "Progressing"


def test_a_server_that_runs_is_not_looked_at_again() -> None:
    for storage in ({"size": "50Gi"}, EXISTING):
        spec = OllamaNodeSpec.model_validate({"replicas": 1, "storage": storage})
        assert look_again(spec, [pod("a-0")], of(claim(made=NEW)), NOW) is None
