from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.volumes import Volumes, by_name, growth, to_grow, volume_size
from tests.unit.plan.objects import Object

GROWS: Object = {"metadata": {"name": "fast"}, "allowVolumeExpansion": True}
RIGID: Object = {"metadata": {"name": "rigid"}}
CLASSES = by_name([GROWS, RIGID])


def claim(
    name: str = "models-a-0",
    size: str = "1Gi",
    storage_class: str | None = "fast",
    phase: str = "Bound",
    **status: Any,
) -> Object:
    spec: Object = {"resources": {"requests": {"storage": size}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "metadata": {"name": name, "namespace": "llm", "resourceVersion": "7", "uid": "u"},
        "spec": spec,
        "status": {"phase": phase, "capacity": {"storage": size}, **status},
    }


def spec(size: str | None = "2Gi", replicas: int = 2, **storage: Any) -> OllamaNodeSpec:
    given = {**({"size": size} if size else {}), **storage}
    return OllamaNodeSpec.model_validate({"replicas": replicas, "storage": given})


def seen(*claims: Object, classes: Any = CLASSES, **refused: str) -> Volumes:
    return Volumes(
        by_name(claims), classes, refused={k.replace("_", "-"): v for k, v in refused.items()}
    )


@pytest.mark.parametrize(
    ("spec", "volumes", "grown"),
    [
        (spec(), seen(claim(), claim("models-a-1")), ["models-a-0", "models-a-1"]),
        (spec(), seen(claim("models-a-10"), claim("models-a-9")), []),
        (spec(replicas=11), seen(claim("models-a-10"), claim("models-a-9")), [9, 10]),
        (spec(), seen(claim(size="2Gi"), claim("models-a-1", "3Gi")), []),
        (spec("2048Mi"), seen(claim(size="2Gi")), []),
        (spec("2Gi"), seen(claim(size="2G")), [0]),
        (spec(None), seen(claim()), []),
        (spec(), seen(claim(phase="Pending")), []),
        (spec(), seen(claim(storage_class="rigid")), []),
        (spec(), seen(claim(storage_class="gone")), []),
        (spec(), seen(claim(storage_class=None)), []),
        (spec(), seen(claim(storage_class="rigid"), classes=None), [0]),
        (spec(), seen(claim(), models_a_0="exceeded quota"), []),
        (spec(), seen(claim("models-ab-0"), claim("models-a-x"), claim("other-a-0")), []),
        (spec(None, existingClaim="models-a-0", replicas=1), seen(claim()), []),
    ],
)
def test_which_claims_grow(spec: OllamaNodeSpec, volumes: Volumes, grown: list[Any]) -> None:
    changes = to_grow("a", spec, volumes)
    names = [one if isinstance(one, str) else f"models-a-{one}" for one in grown]
    assert [one["metadata"]["name"] for one in changes] == names
    for change in changes:
        assert change["kind"] == "PersistentVolumeClaim"
        assert change["metadata"]["resourceVersion"] == "7"
        assert change["spec"] == {"resources": {"requests": {"storage": str(spec.storage.size)}}}


def test_a_claim_that_is_being_deleted_is_left_alone() -> None:
    going = claim()
    going["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert to_grow("a", spec(), seen(going)) == ()
    assert growth("a", spec(), seen(going), ready=True) is None


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        (
            seen(claim(storage_class="rigid")),
            "volume models-a-0 has 1Gi, and its StorageClass rigid lets none grow. Set "
            "spec.storage.size back to 1Gi, or allowVolumeExpansion of that class to true",
        ),
        (seen(claim(storage_class="gone")), "StorageClass gone is gone. Set spec.storage.size"),
        (seen(claim(storage_class="")), "no StorageClass: only volumes of one can grow. Set"),
        (
            seen(
                claim(), classes=None, models_a_0="only dynamically provisioned pvc can be resized"
            ),
            "will not let it grow: only dynamically provisioned pvc can be resized. Set "
            "spec.storage.size back to 1Gi, or mend that.",
        ),
        (
            seen(claim(size="2Gi"), claim("models-a-1", storage_class="rigid")),
            "volume models-a-1 has 1Gi, and its StorageClass rigid lets none grow. Set "
            "spec.storage.size back to 1Gi",
        ),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_what_cannot_grow_says_what_to_do_and_stays_as_ready_as_it_is(
    volumes: Volumes, words: str, ready: bool
) -> None:
    verdict = growth("a", spec(), volumes, ready)
    assert verdict is not None
    assert (str(verdict.reason), verdict.stalled) == ("VolumeNotExpandable", True)
    assert verdict.ready is ready
    assert words in verdict.message


def conditions(**told: str) -> list[Object]:
    return [{"type": kind, "status": "True", "message": text} for kind, text in told.items()]


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        (seen(claim()), "volume models-a-0 grows from 1Gi to 2Gi"),
        (
            seen(claim(size="2Gi", capacity={"storage": "1Gi"})),
            "volume models-a-0 grows from 1Gi to 2Gi",
        ),
        (
            seen(claim(), claim("models-a-1", "2Gi", capacity={"storage": "1Gi"})),
            "volume models-a-0 grows from 1Gi to 2Gi, 1 more too",
        ),
        (
            seen(
                claim(
                    size="2Gi",
                    capacity={"storage": "1Gi"},
                    conditions=conditions(FileSystemResizePending="Waiting for user to restart"),
                )
            ),
            "to 2Gi (its file system does while the pod runs, or else when the pod is made anew)",
        ),
        (
            seen(
                claim(
                    size="2Gi",
                    capacity={"storage": "1Gi"},
                    conditions=conditions(Resizing="", ControllerResizeError="pool is full"),
                )
            ),
            "to 2Gi (its driver says: pool is full)",
        ),
    ],
)
def test_what_grows_is_under_way(volumes: Volumes, words: str) -> None:
    verdict = growth("a", spec(), volumes, ready=True)
    assert verdict is not None
    assert (verdict.reconciling, verdict.stalled, verdict.ready) == (True, False, False)
    assert verdict.message.endswith(words)


@pytest.mark.parametrize(
    ("spec", "volumes", "size"),
    [
        (spec(), seen(claim(), claim("models-a-1", "2Gi")), "1Gi"),
        (spec(replicas=1), seen(claim(size="3Gi"), claim("models-a-1", "2Gi")), "3Gi"),
        (spec(), seen(claim(phase="Pending")), None),
        (spec(None, ephemeral=True), seen(claim()), None),
    ],
)
def test_the_size_that_every_volume_has(
    spec: OllamaNodeSpec, volumes: Volumes, size: str | None
) -> None:
    assert volume_size("a", spec, volumes) == size
    grown = growth("a", spec, volumes, ready=True)
    assert (grown is None) is (size in (None, "3Gi"))
