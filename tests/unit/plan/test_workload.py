"""What an OllamaNode is made of."""

from dataclasses import replace

import pytest

from ollama_fleet.api.ollamanode import ServerSettings
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.stores import Neighbour
from ollama_fleet.plan.volumes import Volumes
from tests.unit.plan.objects import NOW, Object, pod, resource
from tests.unit.plan.observing import conditions, observe, stateful


def test_replicas_make_a_stateful_set_with_a_volume_each_and_its_service() -> None:
    node = resource("OllamaNode", "a", {"replicas": 2, "storage": {"size": "50Gi"}})
    service, workload, budget, policy = plan_ollamanode(node, observe(), NOW).apply
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert (workload["kind"], budget["kind"]) == ("StatefulSet", "PodDisruptionBudget")
    assert policy["kind"] == "NetworkPolicy"
    assert workload["spec"]["replicas"] == 2
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    retention = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert set(retention.values()) == {"Retain"}
    assert workload["metadata"]["ownerReferences"][0]["uid"] == "uid-a"


def test_a_claim_template_that_is_there_is_never_changed() -> None:
    size = {"requests": {"storage": "10Gi"}}
    there = [{"metadata": {"name": "models"}, "spec": {"resources": size, "was": "else"}}]
    node = resource("OllamaNode", "a", {"replicas": 1, "storage": {"size": "50Gi"}})
    plan = plan_ollamanode(node, observe({"spec": {"volumeClaimTemplates": there}}), NOW)
    assert plan.apply[1]["spec"]["volumeClaimTemplates"] == there


@pytest.mark.parametrize(
    ("grows", "ready", "stalled", "changes"),
    [
        (True, ("False", "Progressing"), "False", 1),
        (False, ("True", "VolumeNotExpandable"), "True", 0),
    ],
)
def test_a_larger_size_grows_the_volumes_or_says_why_not(
    grows: bool, ready: tuple[str, str], stalled: str, changes: int
) -> None:
    claim = {
        "metadata": {"name": "models-a-0", "namespace": "llm", "resourceVersion": "1"},
        "spec": {"storageClassName": "c", "resources": {"requests": {"storage": "50Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "50Gi"}},
    }
    classes = {"c": {"metadata": {"name": "c"}, "allowVolumeExpansion": grows}}
    seen = replace(observe(stateful(), pod("a-0")), volumes=Volumes({"models-a-0": claim}, classes))
    node = resource("OllamaNode", "a", {"replicas": 1, "storage": {"size": "80Gi"}})
    plan = plan_ollamanode(node, seen, NOW)
    assert conditions(plan.status)["Ready"] == ready
    assert conditions(plan.status)["Stalled"][0] == stalled
    assert len(plan.change) == changes
    assert plan.status["volumeSize"] == "50Gi"


def test_a_volume_that_kubernetes_would_not_let_grow_is_tried_again() -> None:
    seen = replace(observe(), volumes=Volumes(refused={"models-a-0": "exceeded quota"}))
    node = resource("OllamaNode", "a", {"replicas": 1, "storage": {"size": "80Gi"}})
    assert plan_ollamanode(node, seen, NOW).requeue_after == 120.0


def test_a_store_that_another_has_is_left_alone() -> None:
    spec = {"perNode": {}, "storage": {"hostPath": "/data"}}
    mine, theirs = resource("OllamaNode", "b", spec), resource("OllamaNode", "a", spec)
    seen = replace(observe(), neighbours=(Neighbour("llm", "a", theirs),))
    plan = plan_ollamanode(mine, seen, NOW)
    assert plan.apply == ()
    assert conditions(plan.status)["Stalled"] == ("True", "StoreShared")
    made, _ = plan_ollamanode(theirs, replace(seen, neighbours=()), NOW).apply
    assert made["kind"] == "DaemonSet"


def test_per_node_makes_a_daemon_set_on_gpu_machines_alone() -> None:
    node = resource("OllamaNode", "fleet", {"perNode": {}})
    workload, policy = plan_ollamanode(node, observe(), NOW).apply
    assert (workload["kind"], policy["kind"]) == ("DaemonSet", "NetworkPolicy")
    terms = workload["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0] == {"key": "nvidia.com/gpu.count", "operator": "Exists"}


def test_gpu_memory_is_asked_of_the_machine_beside_what_the_template_asks() -> None:
    theirs = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [theirs]}
        }
    }
    spec = {"replicas": 1, "gpu": {"memory": "24Gi"}, "template": {"affinity": affinity}}
    plan = plan_ollamanode(resource("OllamaNode", "a", spec), observe(), NOW)
    pod_spec = plan.apply[1]["spec"]["template"]["spec"]
    required = pod_spec["affinity"]["nodeAffinity"]
    (term,) = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    zone, memory, *_ = term["matchExpressions"]
    assert zone["key"] == "zone"
    assert memory["key"] == "nvidia.com/gpu.memory"
    assert memory["operator"] == "Gt"
    # a card of 24 GiB that reports 3 % less still counts
    assert 23_800 < int(memory["values"][0]) < 24_576 * 0.98


def test_pods_are_restricted_and_carry_no_token() -> None:
    plan = plan_ollamanode(resource("OllamaNode", "a", {"replicas": 1}), observe(), NOW)
    pod_spec = plan.apply[1]["spec"]["template"]["spec"]
    assert pod_spec["automountServiceAccountToken"] is False
    assert pod_spec["securityContext"]["runAsNonRoot"] is True
    (container,) = pod_spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "OLLAMA_NO_CLOUD", "value": "1"} in container["env"]


SETTINGS = {
    "parallel": ("OLLAMA_NUM_PARALLEL", 3, "1"),
    "contextLength": ("OLLAMA_CONTEXT_LENGTH", 4096, "8192"),
    "maxLoadedModels": ("OLLAMA_MAX_LOADED_MODELS", 2, "1"),
    "maxQueue": ("OLLAMA_MAX_QUEUE", 9, "64"),
    "keepAlive": ("OLLAMA_KEEP_ALIVE", "-1", "30m"),
    "kvCacheType": ("OLLAMA_KV_CACHE_TYPE", "q8_0", "f16"),
    "flashAttention": ("OLLAMA_FLASH_ATTENTION", False, "1"),
    "loadTimeout": ("OLLAMA_LOAD_TIMEOUT", "1h", "10m"),
}


def environment_of(spec: Object) -> dict[str, str]:
    plan = plan_ollamanode(resource("OllamaNode", "a", {"replicas": 1, **spec}), observe(), NOW)
    (container,) = plan.apply[1]["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"]}


def test_every_setting_has_its_variable_and_none_is_left_to_ollamas_own_default() -> None:
    assert SETTINGS.keys() == {
        field.alias for name, field in ServerSettings.model_fields.items() if name != "env"
    }
    own = environment_of({})
    for field, (variable, value, default) in SETTINGS.items():
        assert own[variable] == default
        given = environment_of({"server": {field: value}})
        # Ollama reads booleans as digits
        assert given == {**own, variable: str(int(value) if value is False else value)}
    more = {"name": "OLLAMA_DEBUG", "value": "1"}
    assert environment_of({"server": {"env": [more]}}) == {**own, "OLLAMA_DEBUG": "1"}


@pytest.mark.parametrize(
    ("vendor", "devices"), [("nvidia", None), ("amd", "void"), ("none", "void")]
)
def test_a_server_without_nvidia_gpus_is_not_shown_those_of_others(
    vendor: str, devices: str | None
) -> None:
    assert environment_of({"gpu": {"vendor": vendor}}).get("NVIDIA_VISIBLE_DEVICES") == devices


@pytest.mark.parametrize(
    ("image", "vendor", "reference"),
    [
        ({}, "nvidia", "ollama/ollama:0.35.1"),
        ({}, "amd", "ollama/ollama:0.35.1-rocm"),
        ({"tag": "0.36.0-rocm"}, "amd", "ollama/ollama:0.36.0-rocm"),
        (
            {"digest": "sha256:" + "c" * 64},
            "amd",
            "ollama/ollama@sha256:" + "c" * 64,
        ),
    ],
)
def test_amd_has_its_own_image(image: Object, vendor: str, reference: str) -> None:
    spec = {"replicas": 1, "image": image, "gpu": {"vendor": vendor}}
    plan = plan_ollamanode(resource("OllamaNode", "a", spec), observe(), NOW)
    (container,) = plan.apply[1]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == reference
