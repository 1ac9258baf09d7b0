from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import ServerSettings
from ollama_fleet.api.quantity import short_quantity
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.servers import Probe
from ollama_fleet.plan.stores import Neighbour
from ollama_fleet.plan.troubles import Trouble
from ollama_fleet.plan.volumes import Volumes
from tests.unit.plan.objects import NOW, Object, machine, pod, probe, resource

URL = "http://10.0.0.1:11434"
MACHINES = {"gpu-a": machine("gpu-a")}


def observe(workload: Object | None = None, *pods: Object, probes: Any = None) -> Observed:
    return Observed(workload, pods, MACHINES, {URL: probe()} if probes is None else probes)


def stateful(updated: int = 1) -> Object:
    return {"spec": {}, "status": {"updatedReplicas": updated}}


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


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


def test_a_ready_server_is_reported_with_its_memory_and_source() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1})
    plan = plan_ollamanode(node, observe(stateful(), pod("a-0")), NOW)
    assert conditions(plan.status) == {
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "UpToDate"),
        "Stalled": ("False", "UpToDate"),
    }
    assert plan.status["ready"] == "1/1"
    assert plan.status["memory"] == {
        "perServer": "24Gi",
        "source": "label nvidia.com/gpu.memory",
    }
    (shown,) = plan.status["servers"]
    assert (shown["name"], shown["state"], shown["kubernetesNode"]) == ("a-0", "Ready", "gpu-a")
    assert [note.reason for note in plan.notes] == ["Ready"]


@pytest.mark.parametrize(
    ("active", "told"), [(None, None), ({}, 0), ({URL: 3}, 3), ({"http://10.0.0.2:11434": 3}, 0)]
)
def test_requests_under_way_are_told_where_routers_count_them(
    active: dict[str, int] | None, told: int | None
) -> None:
    seen = replace(observe(stateful(), pod("a-0")), active=active)
    (shown,) = plan_ollamanode(resource("OllamaNode", "a", {"replicas": 1}), seen, NOW).status[
        "servers"
    ]
    assert shown.get("activeRequests") == told


@pytest.mark.parametrize("spec", [{"replicas": 1}, {"perNode": {}}])
def test_not_ready_before_the_workload_is_seen_at_its_newest(spec: Object) -> None:
    stale = {
        "spec": {},
        "metadata": {"generation": 2},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "desiredNumberScheduled": 0},
    }
    plan = plan_ollamanode(resource("OllamaNode", "a", spec), observe(stale, pod("a-0")), NOW)
    assert conditions(plan.status)["Ready"] == ("False", "Progressing")
    assert conditions(plan.status)["Stalled"][0] == "False"


def test_a_second_look_at_the_same_state_changes_nothing_and_says_nothing() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1})
    seen = observe(stateful(), pod("a-0"))
    first = plan_ollamanode(node, seen, NOW)
    later = replace(probe(), last_seen=NOW + timedelta(seconds=30))
    again = plan_ollamanode(
        {**node, "status": first.status},
        replace(seen, probes={URL: later}),
        NOW + timedelta(seconds=30),
    )
    assert again.status == first.status
    assert again.notes == ()


def test_per_node_servers_are_named_by_their_machine() -> None:
    node = resource("OllamaNode", "fleet", {"perNode": {}})
    workload = {"status": {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1}}
    plan = plan_ollamanode(node, observe(workload, pod("fleet-x7k2p")), NOW)
    assert [one["name"] for one in plan.status["servers"]] == ["fleet-gpu-a"]


def test_a_server_that_waits_for_its_machine_is_named_by_it_and_what_it_had_is_not_forgotten() -> (
    None
):
    before: Object = {"name": "fleet-gpu-a", "state": "Ready", "kubernetesNode": "gpu-a"}
    before |= {"resident": ["llama3.2:1b"], "address": URL}
    node = resource("OllamaNode", "fleet", {"perNode": {}}, status={"servers": [before]})
    workload = {"status": {"desiredNumberScheduled": 1}}
    plan = plan_ollamanode(node, observe(workload, unscheduled("", "gpu-a", "fleet-x7k2p")), NOW)
    (told,) = plan.status["servers"]
    assert (told["name"], told["restoring"]) == ("fleet-gpu-a", ["llama3.2:1b"])


def unscheduled(said: str, only: str | None = None, name: str = "a-0") -> Object:
    """A pod that no machine has taken; with ``only``, one that a DaemonSet made for that one."""
    waiting = pod(name, on=None, ready=False)
    if only is not None:
        field = {"key": "metadata.name", "operator": "In", "values": [only]}
        required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
        waiting["spec"]["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
        }
    waiting["status"] = {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": said,
            }
        ],
    }
    return waiting


def tainted(name: str, taint: str) -> Object:
    """A machine with a taint that keeps pods away; `key=value`."""
    made = machine(name)
    key, _, value = taint.partition("=")
    made["spec"]["taints"] = [{"key": key, "value": value, "effect": "NoSchedule"}]
    return made


@pytest.mark.parametrize(
    ("spec", "pod_", "machines", "reason", "words"),
    [
        (
            {"gpu": {"memory": "24Gi"}},
            unscheduled("0/2 nodes are available"),
            {"gpu-6g": machine("gpu-6g", 6), "gpu-24g": machine("gpu-24g", 24)},
            "Unschedulable",
            ["0 of 2 GPU machines", "24 GiB", "gpu-6g is too small (6 GiB)", "Lower spec.gpu.mem"],
        ),
        (
            {},
            unscheduled("0/1 nodes are available"),
            {},
            "Unschedulable",
            ["no machine offers nvidia.com/gpu", "device plugin", "none"],
        ),
        (
            {},
            unscheduled("0/2 nodes are available"),
            {"shut": tainted("shut", "team=vision"), "open": tainted("open", "nvidia.com/gpu")},
            "Unschedulable",
            [
                "shut has the taint team=vision:NoSchedule, which spec.template.tolerations does",
                "open is not free or not allowed by the template",
            ],
        ),
        (
            {"template": {"tolerations": [{"key": "team", "operator": "Exists"}]}},
            unscheduled("0/1 nodes are available"),
            {"shut": tainted("shut", "team=vision")},
            "Unschedulable",
            ["shut is not free or not allowed by the template", "Lower spec.replicas"],
        ),
        (
            {"replicas": None, "perNode": {}},
            unscheduled("0/2 nodes are available", only="gpu-b"),
            {"gpu-a": machine("gpu-a"), "gpu-b": tainted("gpu-b", "team=vision")},
            "Unschedulable",
            [
                "0 of 1 GPU machines have a GPU free: gpu-b has the taint team=vision:NoSchedule",
                "leave the machine out with spec.template.nodeSelector. (scheduler: 0/2 nodes",
            ],
        ),
        (
            {"replicas": None, "perNode": {}, "gpu": {"vendor": "amd"}},
            unscheduled("0/1 nodes are available", only="gpu-a"),
            {"gpu-a": machine("gpu-a"), "gpu-b": machine("gpu-b")},
            "Unschedulable",
            ["machine gpu-a offers no amd.com/gpu. Install the GPU vendor's device plugin there"],
        ),
        (
            {},
            unscheduled("pod has unbound immediate PersistentVolumeClaims"),
            {},
            "VolumeUnbound",
            ["spec.storage.storageClassName"],
        ),
        (
            {},
            pod(
                "a-0",
                ready=False,
                containerStatuses=[
                    {
                        "image": "ollama/ollama:nope",
                        "state": {
                            "waiting": {"reason": "ErrImagePull", "message": "no such manifest"}
                        },
                    }
                ],
            ),
            {},
            "ImagePullFailed",
            ["ollama/ollama:nope", "no such manifest", "spec.image"],
        ),
        (
            {},
            pod(
                "a-0",
                ready=False,
                containerStatuses=[
                    {
                        "restartCount": 4,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
                    }
                ],
            ),
            {},
            "CrashLoop",
            ["exit code 3", "4 restarts", "kubectl logs a-0 --previous"],
        ),
        (
            {},
            pod(
                "a-0",
                ready=False,
                containerStatuses=[
                    {
                        "restartCount": 2,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    }
                ],
            ),
            {},
            "OutOfMemory",
            ["resources.limits.memory"],
        ),
    ],
)
def test_troubles_stall_with_the_fact_and_the_remedy(
    spec: Object, pod_: Object, machines: dict[str, Object], reason: str, words: list[str]
) -> None:
    given = {key: value for key, value in {"replicas": 1, **spec}.items() if value is not None}
    node = resource("OllamaNode", "a", given)
    plan = plan_ollamanode(node, Observed(stateful(0), (pod_,), machines, {}), NOW)
    assert conditions(plan.status)["Stalled"] == ("True", reason)
    message = plan.status["conditions"][2]["message"]
    for word in words:
        assert word in message
    assert [(note.type, note.reason) for note in plan.notes] == [("Warning", reason)]


def test_a_trouble_that_is_mended_clears_itself() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1})
    bad = plan_ollamanode(node, observe(stateful(0), unscheduled("0/1")), NOW)
    later = NOW + timedelta(minutes=1)
    good = plan_ollamanode({**node, "status": bad.status}, observe(stateful(), pod("a-0")), later)
    assert conditions(good.status)["Stalled"][0] == "False"
    assert [note.reason for note in good.notes] == ["Ready"]


@pytest.mark.parametrize(
    ("seen", "state", "stalled"),
    [
        (probe(), "Ready", False),
        (Probe(error="http://x refuses"), "Offline", True),
        (replace(probe(), error="slow", last_seen=NOW - timedelta(seconds=59)), "Ready", False),
        (replace(probe(), error="slow", last_seen=NOW - timedelta(seconds=61)), "Offline", True),
        # the clock was set back since
        (replace(probe(), error="slow", last_seen=NOW + timedelta(hours=1)), "Offline", True),
        (replace(probe(), last_seen=NOW + timedelta(hours=1)), "Ready", False),
        # or set forward
        (replace(probe(), last_seen=NOW - timedelta(hours=1)), "Ready", False),
        (Probe(), "Starting", False),
    ],
)
def test_an_external_server_is_offline_a_minute_after_its_last_word(
    seen: Probe, state: str, stalled: bool
) -> None:
    node = resource("OllamaNode", "box", {"external": {"url": "http://box:11434/"}})
    plan = plan_ollamanode(node, Observed(None, (), {}, {"http://box:11434": seen}), NOW)
    assert plan.apply == ()
    assert plan.status["servers"][0]["state"] == state
    assert (conditions(plan.status)["Stalled"][0] == "True") is stalled


MISSING = Trouble(Reason.SECRET_MISSING, "Secret box does not exist. Make it: …")


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        (replace(probe(), error=MISSING.message, secret=MISSING), "SecretMissing", "Make it"),
        (replace(probe(), error="HTTP 401: who", denied=True), "Unreachable", "in Secret box,"),
        (
            Probe(error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"),
            "Unreachable",
            "into Secret ca, as",
        ),
        (Probe(error="https://box:1 cannot be reached"), "Unreachable", "OLLAMA_HOST=0.0.0.0"),
    ],
)
def test_what_keeps_an_external_server_from_being_asked(
    seen: Probe, reason: str, words: str
) -> None:
    url = "https://box:1"
    refs = {"headersSecretRef": {"name": "box"}, "caSecretRef": {"name": "ca"}}
    node = resource("OllamaNode", "box", {"external": {"url": url, **refs}})
    plan = plan_ollamanode(node, Observed(None, (), {}, {url: seen}), NOW)
    assert conditions(plan.status)["Stalled"] == ("True", reason)
    assert words in plan.status["conditions"][0]["message"]
    assert plan.status["servers"][0]["state"] == "Offline"
    assert [note.reason for note in plan.notes] == [reason]
    told = plan_ollamanode(
        {**node, "status": plan.status}, Observed(None, (), {}, {url: seen}), NOW
    )
    assert (told.notes, told.status) == ((), plan.status)
    mended = Observed(None, (), {}, {url: probe()})
    good = plan_ollamanode({**node, "status": plan.status}, mended, NOW)
    assert conditions(good.status)["Stalled"][0] == "False"


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Probe(error="HTTP 401: who", denied=True), "name it in spec.external.headersSecretRef"),
        (Probe(error="CERTIFICATE_VERIFY_FAILED"), "name it in spec.external.caSecretRef"),
    ],
)
def test_a_secret_that_is_not_named_is_to_be_named(seen: Probe, words: str) -> None:
    url = "https://box:1"
    node = resource("OllamaNode", "box", {"external": {"url": url}})
    plan = plan_ollamanode(node, Observed(None, (), {}, {url: seen}), NOW)
    assert words in plan.status["conditions"][0]["message"]


def test_servers_of_a_daemon_set_that_nobody_has_counted_are_counted() -> None:
    made = pod("every-1")
    made["metadata"]["labels"] = {}
    daemon = {"kind": "DaemonSet", "metadata": {"generation": 1}, "spec": {}, "status": {}}
    node = resource("OllamaNode", "every", {"perNode": {}})
    plan = plan_ollamanode(node, observe(daemon, made), NOW)
    assert "of 0" not in plan.status["conditions"][0]["message"]


def test_a_cordoned_server_drains_and_is_not_ready() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1, "cordoned": True})
    plan = plan_ollamanode(node, observe(stateful(), pod("a-0")), NOW)
    assert plan.status["servers"][0]["state"] == "Draining"
    assert conditions(plan.status)["Ready"] == ("False", "Cordoned")


@pytest.mark.parametrize(
    ("size", "text"),
    [(24 * 2**30, "24Gi"), (0, "0"), (15_360 * 2**20, "15Gi"), (24_564 * 2**20, "24564Mi")],
)
def test_quantities_are_short(size: int, text: str) -> None:
    assert short_quantity(size) == text


def test_whoever_holds_the_gpu_is_named() -> None:
    holder = pod("other-0", on="gpu-a")
    holder["metadata"]["namespace"] = "elsewhere"
    node = resource("OllamaNode", "a", {"replicas": 1, "gpu": {"memory": "20Gi"}})
    waiting = unscheduled("0/1 nodes are available")
    observed = replace(observe(stateful(0), waiting), rivals=(holder,))
    message = plan_ollamanode(node, observed, NOW).status["conditions"][0]["message"]
    assert "gpu-a is taken by elsewhere/other-0" in message


def crashing(name: str, code: int) -> Object:
    ended = {"restartCount": 3, "lastState": {"terminated": {"exitCode": code, "reason": "Error"}}}
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    return pod(name, ready=False, containerStatuses=[{**ended, **waiting}])


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ([crashing("a-0", 1)], "pod a-0 ends with exit code 1"),
        (
            [crashing("a-1", 1), crashing("a-0", 2)],
            "a-0: pod a-0 ends with exit code 2 … (and 1 more server)",
        ),
        (
            [pod("a-2"), unscheduled("0/1"), crashing("a-1", 1), crashing("a-3", 1)],
            "a-0: no machine offers … (and 2 more servers: CrashLoop)",
        ),
    ],
)
def test_troubles_of_several_servers_are_told_as_one(pods: list[Object], told: str) -> None:
    node = resource("OllamaNode", "a", {"replicas": len(pods)})
    plan = plan_ollamanode(node, Observed(stateful(0), tuple(pods), {}, {}), NOW)
    message = plan.status["conditions"][0]["message"]
    begin, _, end = told.partition(" … ")
    assert message.startswith(begin)
    assert message.endswith(end)
    turned = Observed(stateful(0), tuple(reversed(pods)), {}, {})
    assert plan_ollamanode(node, turned, NOW).status["conditions"][0]["message"] == message
