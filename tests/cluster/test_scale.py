"""Scaling by Kubernetes' own means, and the metrics of pods that it goes by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import NODE, OLLAMA_NODE, ROUTER, Kind, Object
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import Api, Fleet, ollama_node, router, standing
from tests.cluster.waiting import eventually

SCALER = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
METRICS = "/apis/metrics.k8s.io/v1beta1"
SERVICES, REGISTRATIONS = (
    "/api/v1/namespaces/kube-system/services",
    "/apis/apiregistration.k8s.io/v1/apiservices",
)
NAME = "v1beta1.metrics.k8s.io"


@pytest.fixture
def metrics(cluster: Cluster, api: Api) -> Iterator[None]:
    """The API of metrics, which the machines serve."""
    status = api.all(NODE)[0]["status"]
    port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    host = next(one["address"] for one in status["addresses"] if one["type"] == "InternalIP")
    service = {
        "metadata": {"name": "metrics"},
        "spec": {"type": "ExternalName", "externalName": host},
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": NAME},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "service": {"namespace": "kube-system", "name": "metrics", "port": port},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    api.call("POST", SERVICES, service)
    api.call("POST", REGISTRATIONS, registration)
    try:
        eventually("metrics are served", lambda: api.http.get(f"{METRICS}/pods").is_success)
        yield
    finally:
        # namespaces are not deleted as long as a registered API does not answer
        api.call("DELETE", f"{REGISTRATIONS}/{NAME}")
        api.call("DELETE", f"{SERVICES}/metrics")


def scale_of(api: Api, fleet: Fleet, kind: Kind = OLLAMA_NODE, name: str = "a") -> Object:
    return api.call("GET", kind.path(fleet.namespace, name, "scale"))


def test_the_scale_subresource_drives_servers(fleet: Fleet, api: Api, kubectl: Kubectl) -> None:
    fleet.apply(ollama_node(replicas=1))
    fleet.ready(OLLAMA_NODE, "a")
    kubectl("scale", "ollamanode/a", "--replicas=3", "-n", fleet.namespace)
    status = fleet.until(
        OLLAMA_NODE, "a", lambda obj: obj["status"] if obj["status"]["ready"] == "3/3" else None
    )
    assert (status["replicas"], status["readyReplicas"]) == (3, 3)
    scale = scale_of(api, fleet)
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 3
    selector = scale["status"]["selector"]
    assert selector == status["selector"] == "ollamafleet.dev/ollamanode=a"
    pods = kubectl("get", "pods", "-n", fleet.namespace, "-l", selector, "-o", "name").split()
    assert pods == [f"pod/a-{number}" for number in range(3)]

    kubectl("scale", "ollamanode/a", "--replicas=0", "-n", fleet.namespace)
    eventually("none is left", lambda: not fleet.servers("a"))
    assert (scale_of(api, fleet)["status"].get("replicas", 0), fleet.pods("a")) == (0, [])
    now = standing(fleet.ready(OLLAMA_NODE, "a"))
    assert now is not None
    assert now.message == "0 of 0 servers ready"


def test_a_router_tells_its_scale_without_a_number_of_its_own(
    fleet: Fleet, api: Api, kubectl: Kubectl
) -> None:
    fleet.apply(ollama_node(replicas=1), router())
    fleet.ready(ROUTER, "chat")
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["ready"] == "1/1")
    scale = scale_of(api, fleet, ROUTER, "chat")
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 1
    assert scale["status"]["selector"] == "ollamafleet.dev/router=chat"

    # what an autoscaler sets stays when the author applies the same again
    kubectl("scale", "router/chat", "--replicas=2", "-n", fleet.namespace)
    fleet.apply(router())
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["ready"] == "2/2")
    assert scale_of(api, fleet, ROUTER, "chat")["spec"]["replicas"] == 2


def test_servers_that_follow_machines_have_no_scale(
    fleet: Fleet, api: Api, kubectl: Kubectl
) -> None:
    """Which is no number that Kubernetes could give, and no mistake of its reader."""
    fleet.apply(ollama_node(perNode={}))
    refused = api.http.get(OLLAMA_NODE.path(fleet.namespace, "a", "scale"))
    assert refused.status_code == 500
    assert "replicas" in refused.json()["message"]
    with pytest.raises(AssertionError, match=r"write exactly one of replicas .* perNode: \{\}"):
        kubectl("scale", "ollamanode/a", "--replicas=3", "-n", fleet.namespace)


def scale_by_memory(fleet: Fleet, name: str) -> None:
    """Have an autoscaler keep an OllamaNode at 1 to 3 servers; any program holds too much for 1."""
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Mi"}}
    target = {"apiVersion": "ollamafleet.dev/v1alpha1", "kind": "OllamaNode", "name": name}
    scaler = {
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": memory}],
        },
    }
    fleet.api.call("POST", SCALER.path(fleet.namespace), scaler)


def said_by_scaler(fleet: Fleet, name: str) -> dict[str, Object]:
    """The conditions of an autoscaler, by type."""
    found = fleet.get(SCALER, name) or {}
    return {one["type"]: one for one in (found.get("status") or {}).get("conditions", ())}


def test_an_autoscaler_scales_servers_whose_use_is_told(
    fleet: Fleet, api: Api, metrics: None
) -> None:
    nowhere = {"nodeSelector": {"kubernetes.io/hostname": "none"}}
    fleet.apply(ollama_node(replicas=1), ollama_node("every", perNode={}, template=nowhere))
    fleet.ready(OLLAMA_NODE, "a")
    for name in ("a", "every"):
        scale_by_memory(fleet, name)
    fleet.until(OLLAMA_NODE, "a", lambda obj: obj["status"]["ready"] == "3/3")
    assert said_by_scaler(fleet, "a")["ScalingActive"]["status"] == "True"

    # servers that follow machines are left alone, and their autoscaler says what is missing
    said = eventually("it says why", lambda: said_by_scaler(fleet, "every"))["AbleToScale"]
    assert (said["status"], said["reason"]) == ("False", "FailedGetScale")
    assert 'the spec replicas field ".spec.replicas" does not exist' in said["message"]

    # what they use stands beside the rest, and does not keep the operator writing
    fleet.patch(OLLAMA_NODE, "a", {"spec": {"weight": 50}})
    used = eventually(
        "their use is told",
        lambda: [one for one in fleet.servers("a").values() if one.get("ramUsed")],
    )
    assert used[0]["ramUsed"].endswith("Mi")
    assert used[0]["cpuUsed"].endswith("m")
    fleet.rests(5)
