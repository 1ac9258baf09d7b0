"""What keeps an OllamaNode's servers from being there, and how that is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.servers import Probe
from ollama_fleet.plan.troubles import Trouble
from tests.unit.plan.objects import NOW, Object, machine, pod, probe, resource
from tests.unit.plan.observing import conditions, observe, stateful, unscheduled


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
