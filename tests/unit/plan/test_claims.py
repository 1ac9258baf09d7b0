from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.claims import claim_template
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from tests.unit.plan.gpumachines import claim, published
from tests.unit.plan.objects import NOW, Object, machine, pod, resource

CLAIM = {"allocation": "ResourceClaim"}


def node(**gpu: Any) -> Object:
    return resource("OllamaNode", "a", {"replicas": 1, "gpu": {**CLAIM, **gpu}})


def template(of: Object) -> Object:
    made = claim_template(of, OllamaNodeSpec.model_validate(of["spec"]), {"x": "y"})
    assert made is not None
    return made


def request(**gpu: Any) -> Object:
    (made,) = template(node(**gpu))["spec"]["spec"]["devices"]["requests"]
    assert made["name"] == "gpu"
    found: Object = made["exactly"]
    return found


@pytest.mark.parametrize(
    ("gpu", "device_class", "count", "least"),
    [
        ({}, "gpu.nvidia.com", 1, None),
        ({"count": 2, "memory": "24Gi"}, "gpu.nvidia.com", 2, ("gpu.nvidia.com", "23838Mi")),
        ({"vendor": "amd", "memory": "64Gi"}, "gpu.amd.com", 1, ("gpu.amd.com", "63569Mi")),
        (
            {"deviceClassName": "mig.nvidia.com", "memory": "9Gi"},
            "mig.nvidia.com",
            1,
            ("gpu.nvidia.com", "8939Mi"),
        ),
    ],
)
def test_what_a_claim_asks_for(
    gpu: Object, device_class: str, count: int, least: tuple[str, str] | None
) -> None:
    made = request(**gpu)
    assert (made["deviceClassName"], made["count"]) == (device_class, count)
    assert made["allocationMode"] == "ExactCount"
    if least is None:
        assert "selectors" not in made
    else:
        (selector,) = made["selectors"]
        capacity = f"device.capacity['{least[0]}']"
        assert selector["cel"]["expression"] == (
            f"has({capacity}.memory) && {capacity}.memory.compareTo(quantity('{least[1]}')) >= 0"
        )


def test_the_name_says_what_is_in_it() -> None:
    same = {template(node(memory=memory))["metadata"]["name"] for memory in ("24Gi", "24576Mi")}
    assert len(same) == 1
    others = {template(node(**gpu))["metadata"]["name"] for gpu in ({}, {"count": 2})}
    assert len(same | others) == 3
    assert all(name.startswith("a-gpu-") for name in same | others)


def test_a_pod_has_the_claim_and_no_extended_resource() -> None:
    plan = plan_ollamanode(node(), Observed(None, (), {}, {}), NOW)
    made, service, workload, _, _ = plan.apply
    assert [one["kind"] for one in (made, service)] == ["ResourceClaimTemplate", "Service"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-a"
    labels = made["metadata"]["labels"]
    assert made["spec"]["metadata"]["labels"] == labels
    assert labels["ollamafleet.dev/ollamanode"] == "a"
    spec = workload["spec"]["template"]["spec"]
    name = made["metadata"]["name"]
    assert spec["resourceClaims"] == [{"name": "gpu", "resourceClaimTemplateName": name}]
    assert spec["containers"][0]["resources"] == {"claims": [{"name": "gpu"}]}
    assert "affinity" not in spec


def test_without_the_kind_it_stalls_and_makes_nothing() -> None:
    known = Devices(refused="the cluster has no such kind")
    plan = plan_ollamanode(node(), Observed(None, (), {}, {}, devices=known), NOW)
    assert (plan.apply, plan.delete) == ((), ())
    stalled = plan.status["conditions"][2]
    assert (stalled["status"], stalled["reason"]) == ("True", "Unsupported")
    for word in ("resource.k8s.io/v1", "no such kind", "1.34", "DevicePlugin"):
        assert word in stalled["message"]
    by_plugin = resource("OllamaNode", "a", {"replicas": 1})
    assert plan_ollamanode(by_plugin, Observed(None, (), {}, {}, devices=known), NOW).apply


def old(name: str = "a-gpu-old") -> Object:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": "llm", "uid": f"uid-{name}"},
    }


def made_from(name: str, obj: Object) -> Object:
    obj["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": name}]
    return obj


def stateful(template_name: str | None, **status: Any) -> Object:
    spec: Object = {"containers": []}
    made = {"metadata": {}, "spec": spec}
    if template_name:
        made_from(template_name, made)
    return {
        "metadata": {"generation": 2},
        "spec": {"template": made},
        "status": {
            "observedGeneration": 2,
            **status,
        },
    }


@pytest.mark.parametrize(
    ("workload", "pods_from", "goes"),
    [
        ("now", ["now"], True),
        ("now", [], True),
        # a pod still has it
        ("now", ["now", "a-gpu-old"], False),
        # the workload is not yet told of the new one, or has not yet looked
        ("a-gpu-old", [], False),
        ({"observedGeneration": 1}, ["now"], False),
        (None, [], False),
    ],
)
def test_an_old_template_goes_when_no_pod_can_need_it(
    workload: Any, pods_from: list[str], goes: bool
) -> None:
    wanted = node(memory="24Gi")
    plan = plan_ollamanode(wanted, Observed(None, (), {}, {}), NOW)
    name = plan.apply[0]["metadata"]["name"]
    if isinstance(workload, dict):
        live: Object | None = stateful(name, **workload)
    else:
        live = workload and stateful(name if workload == "now" else workload)
    pods = tuple(
        made_from(name if one == "now" else one, pod(f"a-{number}"))
        for number, one in enumerate(pods_from)
    )
    templates = (plan.apply[0], old())
    observed = Observed(live, pods, {}, {}, claim_templates=templates)
    deleted = plan_ollamanode(wanted, observed, NOW).delete
    assert [one["metadata"]["name"] for one in deleted] == (["a-gpu-old"] if goes else [])


def test_every_template_goes_with_the_last_claim() -> None:
    by_plugin = resource("OllamaNode", "a", {"replicas": 1})
    observed = Observed(stateful(None), (pod("a-0"),), {}, {}, claim_templates=(old(),))
    assert len(plan_ollamanode(by_plugin, observed, NOW).delete) == 1


def waiting(said: str) -> Object:
    unscheduled = pod("a-0", on=None, ready=False)
    unscheduled["status"] = {
        "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
        ]
    }
    return unscheduled


SLICES = [published("big", "80Gi", "80Gi"), published("small", "24Gi"), published("off", "80Gi")]
CANNOT = "0/3 nodes are available: 3 cannot allocate all claims."


@pytest.mark.parametrize(
    ("said", "slices", "machines", "words"),
    [
        (
            CANNOT,
            SLICES,
            ["big", "small", "off"],
            [
                "0 of 3 GPU machines have a GPU with 40 GiB free",
                "big is taken by llm/b-0, llm/b-1",
                "small is too small (24 GiB)",
                "off is cordoned",
                "Lower spec.gpu.memory",
                CANNOT,
            ],
        ),
        (CANNOT, SLICES, ["big"], ["0 of 1 GPU machines", "big is taken"]),
        (CANNOT, SLICES, [], ["0 of 3 GPU machines", "off is not free or not allowed"]),
        (CANNOT, [], ["big"], ["no machine publishes a GPU of gpu.nvidia.com", "DRA driver"]),
        (
            "request gpu: device class gpu.nvidia.com does not exist",
            SLICES,
            ["big"],
            ["there is no DeviceClass gpu.nvidia.com", "spec.gpu.deviceClassName"],
        ),
    ],
)
def test_why_no_machine_has_what_the_claim_asks_for(
    said: str, slices: list[Object], machines: list[str], words: list[str]
) -> None:
    claims = [
        claim("one", ("big", "gpu-0"), pod="b-0"),
        claim("two", ("big", "gpu-1"), pod="b-1"),
    ]
    nodes = {name: machine(name) for name in machines}
    if "off" in nodes:
        nodes["off"]["spec"]["unschedulable"] = True
    known = Devices.read(slices, claims)
    observed = Observed(stateful(None), (waiting(said),), nodes, {}, devices=known)
    status = plan_ollamanode(node(memory="40Gi"), observed, NOW).status
    stalled = status["conditions"][2]
    assert (stalled["status"], stalled["reason"]) == ("True", "Unschedulable")
    for word in words:
        assert word in stalled["message"]
