"""What keeps servers from running or makes them unsafe: named, with the remedy, and forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev.cluster import Cluster, Machine
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    NETWORK_POLICY,
    NODE,
    OLLAMA_NODE,
    POD,
    Object,
)
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from tests.cluster.audit import Audit
from tests.cluster.chatting import chatting
from tests.cluster.fleet import (
    OPERATOR,
    SMALL,
    Fleet,
    distribution,
    ollama_node,
    router,
    standing,
)
from tests.cluster.waiting import eventually
from tests.unit.plan.objects import NOW

GIB = 2**30
ILL = "gpu-ill"
ON_ILL: Object = {"template": {"nodeSelector": {"kubernetes.io/hostname": ILL}}}
ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module", autouse=True)
def ill(cluster: Cluster) -> Iterator[str]:
    """A machine with a GPU, to spoil; one that is new may be unready for a while."""
    cluster.add_machine(Machine(ILL, gpu_memory=24 * GIB))
    yield ILL
    cluster.remove_machine(ILL)


def spoilt(fleet: Fleet, status: Object, reason: str) -> str:
    """The message of an OllamaNode once it stalls for that reason, while the machine is so.

    The machine's agent puts its status right once a minute: it is spoilt until somebody sees it.
    """

    def told() -> str:
        spoil(fleet, status)
        now = standing(fleet.get(OLLAMA_NODE, "a") or {})
        return now.message if now and now.stalled and now.reason == reason else ""

    return eventually(f"it stalls for {reason}", told, within=100)


def spoil(fleet: Fleet, status: Object) -> None:
    path = f"{NODE.path()}/{ILL}/status"
    fleet.api.call("PATCH", path, {"status": status}, "application/strategic-merge-patch+json")


def test_gpus_that_are_gone_are_told_until_they_are_back(fleet: Fleet, ill: str) -> None:
    """One by device plugin, one by claim."""
    fleet.apply(ollama_node(gpu={"vendor": "nvidia"}, **ON_ILL))
    fleet.apply(ollama_node("b", gpu={"allocation": "ResourceClaim"}, **ON_ILL))
    for name in ("a", "b"):
        fleet.ready(OLLAMA_NODE, name)
    spoil(fleet, {"allocatable": {"nvidia.com/gpu": "0"}})

    path = f"/apis/resource.k8s.io/v1/resourceslices/{ill}-gpu.nvidia.com"
    slices = fleet.api.call("GET", path)
    fleet.api.call("DELETE", path)
    try:
        message = fleet.stalls(OLLAMA_NODE, "b", "GpuGone")
        assert f"gpu.nvidia.com no longer publishes gpu-0 of {ill}, which pod b-0" in message
        assert fleet.servers("b")["b-0"]["state"] == "Unfit"
        # a device plugin may be restarting
        assert fleet.servers("a")["a-0"]["state"] == "Ready"
    finally:
        del slices["metadata"]["resourceVersion"], slices["metadata"]["uid"]
        fleet.api.call("POST", path.rpartition("/")[0], slices)
    fleet.ready(OLLAMA_NODE, "b")

    message = spoilt(fleet, {"allocatable": {"nvidia.com/gpu": "0"}}, "GpuGone")
    assert f"{ill} offers 0 nvidia.com/gpu where its pods hold 1" in message
    assert f"kubectl describe node {ill}" in message
    assert fleet.servers("a")["a-0"]["state"] == "Unfit"
    spoil(fleet, {"allocatable": {"nvidia.com/gpu": "1"}})
    fleet.ready(OLLAMA_NODE, "a")
    assert fleet.servers("a")["a-0"]["state"] == "Ready"
    for name in ("a", "b"):
        fleet.tells(OLLAMA_NODE, name, "Ready", "GpuGone", "Ready")


def enforce(fleet: Fleet, level: str) -> None:
    """Have the namespace refuse pods below a Pod Security level."""
    path = f"/api/v1/namespaces/{fleet.namespace}"
    labels = {"metadata": {"labels": {ENFORCE: level}}}
    fleet.api.call("PATCH", path, labels, "application/merge-patch+json")


def quota(fleet: Fleet, **hard: str) -> str:
    """Make a ResourceQuota that counts already, and return its path."""
    quotas = f"/api/v1/namespaces/{fleet.namespace}/resourcequotas"
    fleet.api.call("POST", quotas, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    path = f"{quotas}/few"
    eventually("it counts", lambda: fleet.api.call("GET", path).get("status", {}).get("used"))
    return path


def test_a_quota_that_is_used_up_is_named_until_it_is_raised(fleet: Fleet) -> None:
    path = quota(fleet, pods="1")
    fleet.apply(ollama_node(replicas=2))
    message = fleet.stalls(OLLAMA_NODE, "a", "QuotaExceeded")
    assert "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1" in message
    assert f"kubectl -n {fleet.namespace} edit resourcequota few" in message
    fleet.tells(OLLAMA_NODE, "a", "QuotaExceeded")

    more = {"spec": {"hard": {"pods": "5"}}}
    fleet.api.call("PATCH", path, more, "application/merge-patch+json")
    fleet.ready(OLLAMA_NODE, "a")
    fleet.tells(OLLAMA_NODE, "a", "QuotaExceeded", "Ready")
    quiet = Audit(fleet.cluster)
    fleet.rests(3)
    assert not [one for one in quiet.of(f"{OPERATOR}:{OPERATOR}") if one.resource == "events"]


def limited(fleet: Fleet) -> None:
    limits = {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}
    path = f"/api/v1/namespaces/{fleet.namespace}/limitranges"
    fleet.api.call("POST", path, {"metadata": {"name": "small"}, "spec": limits})


REFUSED: dict[str, tuple[Callable[[Fleet], object], Object, list[str], Object]] = {
    "no service account": (
        lambda fleet: None,
        {"template": {"serviceAccountName": "me"}},
        ['serviceaccount "me" not found', "create serviceaccount me", "serviceAccountName"],
        {"template": None},
    ),
    "no RuntimeClass": (
        lambda fleet: None,
        {"template": {"runtimeClassName": "kata"}},
        ["Create RuntimeClass kata, or correct spec.template.runtimeClassName"],
        {"template": None},
    ),
    "a LimitRange": (
        limited,
        {},
        ["maximum memory usage per Container is 1Gi", "That is a LimitRange"],
        {"resources": {"limits": {"memory": "1Gi"}}},
    ),
    "a quota that asks for limits": (
        lambda fleet: quota(fleet, **{"limits.cpu": "8"}),
        {},
        ["must specify limits.cpu", "ResourceQuota few asks this", "spec.resources"],
        {"resources": {"limits": {"cpu": "1"}}},
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_refuses_pods_is_named_until_the_spec_fits_it(fleet: Fleet, why: str) -> None:
    before, spec, words, cure = REFUSED[why]
    before(fleet)
    fleet.apply(ollama_node(**spec))
    message = fleet.stalls(OLLAMA_NODE, "a", "PodForbidden")
    for word in words:
        assert word in message
    fleet.patch(OLLAMA_NODE, "a", {"spec": cure})
    fleet.ready(OLLAMA_NODE, "a")
    fleet.tells(OLLAMA_NODE, "a", "PodForbidden", "Ready")


def test_a_priority_class_that_is_missing_is_named_until_it_is_made(fleet: Fleet) -> None:
    name = f"{fleet.namespace}-gold"
    fleet.apply(ollama_node(template={"priorityClassName": name}))
    message = fleet.stalls(OLLAMA_NODE, "a", "PodForbidden")
    assert f"Create PriorityClass {name}, or correct spec.template.priorityClassName" in message
    assert not fleet.pods("a")
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    fleet.api.call("POST", classes, {"metadata": {"name": name}, "value": 7})
    try:
        fleet.ready(OLLAMA_NODE, "a")
    finally:
        fleet.api.call("DELETE", f"{classes}/{name}")


def test_a_folder_that_pod_security_refuses_is_named_until_it_is_allowed(fleet: Fleet) -> None:
    enforce(fleet, "restricted")
    node: dict[str, Any] = {
        "perNode": {},
        "storage": {"hostPath": f"/var/lib/{fleet.namespace}"},
        "template": {"nodeSelector": {"kubernetes.io/hostname": "gpu-6g"}},
    }
    fleet.apply(ollama_node(**node))
    message = fleet.stalls(OLLAMA_NODE, "a", "PodForbidden")
    assert 'violates PodSecurity "restricted:latest"' in message
    assert f"kubectl label namespace {fleet.namespace} {ENFORCE}=privileged" in message
    enforce(fleet, "privileged")
    fleet.ready(OLLAMA_NODE, "a")
    fleet.tells(OLLAMA_NODE, "a", "PodForbidden", "Ready")


GPUS: tuple[Object, ...] = (
    {"vendor": "nvidia"},
    {"vendor": "nvidia", "allocation": "ResourceClaim"},
    {"vendor": "amd"},
    {"vendor": "amd", "allocation": "ResourceClaim"},
    {"vendor": "none"},
)
STORAGE: tuple[Object, ...] = ({"size": "1Gi"}, {"existingClaim": "models"}, {"ephemeral": True})


def server_pod(fleet: Fleet, spec: Object) -> Object:
    """The pod that a StatefulSet or DaemonSet would make for an OllamaNode."""
    node = ollama_node(**spec)
    node["metadata"] |= {"namespace": fleet.namespace, "uid": "x"}
    made = plan_ollamanode(node, Observed(None, (), {}, {}), NOW).apply
    (workload,) = (one for one in made if one["kind"] in ("StatefulSet", "DaemonSet"))
    pod = workload["spec"]["template"]
    if "volumeClaimTemplates" in workload["spec"]:
        claim = {"name": "models", "persistentVolumeClaim": {"claimName": "models-a-0"}}
        pod["spec"]["volumes"].append(claim)
    return {**pod, "metadata": {**pod["metadata"], "name": "a-0"}}


def test_servers_are_admitted_where_pod_security_is_restricted(fleet: Fleet) -> None:
    enforce(fleet, "restricted")
    pods = f"{POD.path(fleet.namespace)}?dryRun=All"
    for gpu, storage in itertools.product(GPUS, STORAGE):
        spec: Object = {"gpu": gpu, "storage": storage}
        fleet.api.call("POST", pods, server_pod(fleet, spec))
        if "ephemeral" in storage:
            fleet.api.call("POST", pods, server_pod(fleet, {**spec, "perNode": {}}))
    with pytest.raises(AssertionError, match='violates PodSecurity "restricted'):
        fleet.api.call("POST", pods, server_pod(fleet, {"storage": {"hostPath": "/models"}}))


def test_memory_that_is_too_little_is_told_until_there_is_more(fleet: Fleet) -> None:
    little = {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "8Mi"}}
    fleet.apply(ollama_node(resources=little))
    message = fleet.stalls(OLLAMA_NODE, "a", "OutOfMemory")
    assert "pod a-0 used more memory than it may have" in message
    assert "Raise spec.resources.limits.memory" in message
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"resources": {"limits": {"memory": "8Gi"}}}})
    fleet.ready(OLLAMA_NODE, "a")
    fleet.tells(OLLAMA_NODE, "a", "OutOfMemory", "Ready")


def vulnerable(node: Object) -> str:
    """What the condition says; empty without one."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    told = {one["type"]: one for one in conditions}.get("Vulnerable", {})
    return str(told.get("message", "")) if told.get("status") == "True" else ""


def test_an_old_release_is_vulnerable_until_it_is_updated(fleet: Fleet) -> None:
    fleet.apply(ollama_node(server_env={"EMULATOR_VERSION": "0.34.1"}, image={"tag": "0.34.1"}))
    node = fleet.ready(OLLAMA_NODE, "a")
    message = vulnerable(node)
    assert "Ollama 0.34.1 has known security holes: " in message
    assert "CVE-2026-5530" in message
    assert message.endswith("Write spec.image.tag 0.35.1 or newer.")
    eventually("it is told", lambda: "VulnerableVersion" in fleet.reasons(OLLAMA_NODE, "a"))
    fleet.apply(ollama_node(server_env={"EMULATOR_VERSION": "0.35.1"}))
    fleet.until(OLLAMA_NODE, "a", lambda one: not vulnerable(one))
    fleet.ready(OLLAMA_NODE, "a")
    assert fleet.reasons(OLLAMA_NODE, "a").count("VulnerableVersion") == 1


def test_only_routers_and_the_operator_reach_servers(fleet: Fleet) -> None:
    fleet.apply(ollama_node())
    fleet.ready(OLLAMA_NODE, "a")
    policy = fleet.get(NETWORK_POLICY, "a-servers") or {}
    (pod,) = fleet.pods("a")
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    assert chosen <= pod["metadata"]["labels"].items()
    (rule,) = policy["spec"]["ingress"]
    (operator,) = (one for one in rule["from"] if "namespaceSelector" in one)
    (home,) = operator["namespaceSelector"]["matchLabels"].items()
    labels = fleet.api.call("GET", f"/api/v1/namespaces/{OPERATOR}")["metadata"]["labels"]
    assert home in labels.items()
    its = operator["podSelector"]["matchLabels"]
    assert all(
        its.items() <= one["metadata"]["labels"].items() for one in fleet.api.all(POD, OPERATOR)
    )

    opened: Object = {"spec": {"ingress": [{}]}}
    fleet.patch(NETWORK_POLICY, "a-servers", opened)
    fleet.until(NETWORK_POLICY, "a-servers", lambda one: one["spec"] == policy["spec"])


def test_a_machine_that_is_not_ready_is_told_until_it_is_and_cuts_no_stream(
    fleet: Fleet, ill: str
) -> None:
    slow = {"EMULATOR_TOKENS_PER_SECOND": "30", "EMULATOR_ANSWER_TOKENS": "30"}
    fleet.apply(ollama_node(server_env=slow, **ON_ILL), ollama_node("b", server_env=slow))
    fleet.apply(distribution("m", SMALL), router())
    fleet.ready(MODEL_DISTRIBUTION, "m")
    since = "2026-01-01T00:00:00Z"
    down = {
        "type": "Ready",
        "status": "False",
        "reason": "KubeletNotReady",
        "message": "container runtime is down",
        "lastTransitionTime": since,
    }
    with chatting(fleet.url(), SMALL, 4) as chats:
        message = spoilt(fleet, {"conditions": [down]}, "MachineNotReady")
    assert chats.lost == 0, chats.reasons
    assert f"machine {ill} is not Ready since {since}: container runtime is down." in message
    assert f"kubectl describe node {ill}" in message
    assert fleet.servers("a")["a-0"]["state"] == "Offline"
    spoil(fleet, {"conditions": [{**down, "status": "True", "message": "well"}]})
    fleet.ready(OLLAMA_NODE, "a")
    # Kubernetes calls the machine's pods unready some time later, so Ready may be told once more
    assert fleet.reasons(OLLAMA_NODE, "a").count("MachineNotReady") == 1
