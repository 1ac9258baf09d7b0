from typing import Any

import pytest

from ollama_fleet.api.servers import OLLAMANODE_LABEL
from ollama_fleet.plan.networkpolicy import network_policy
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from tests.unit.plan.objects import NOW, resource


def test_routers_and_the_operator_get_in_and_nobody_else() -> None:
    policy = network_policy(resource("OllamaNode", "a", {"replicas": 1}), "fleets")
    assert policy["apiVersion"] == "networking.k8s.io/v1"
    assert policy["metadata"]["name"] == "a-servers"
    assert policy["metadata"]["ownerReferences"][0]["uid"] == "uid-a"
    spec = policy["spec"]
    assert spec["podSelector"] == {"matchLabels": {OLLAMANODE_LABEL: "a"}}
    # nothing is said of what goes out
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["ingress"] == [
        {
            "from": [
                {
                    "podSelector": {
                        "matchExpressions": [
                            {"key": "ollamafleet.dev/router", "operator": "Exists"}
                        ]
                    }
                },
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "fleets"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "ollama-fleet"}},
                },
            ],
            "ports": [{"port": 11434, "protocol": "TCP"}],
        }
    ]


@pytest.mark.parametrize("spec", [{"replicas": 1}, {"perNode": {}}])
def test_every_ollamanode_with_pods_has_one(spec: dict[str, Any]) -> None:
    seen = Observed(None, (), {}, {}, operator_namespace="fleets")
    made = plan_ollamanode(resource("OllamaNode", "a", spec), seen, NOW).apply
    (policy,) = (one for one in made if one["kind"] == "NetworkPolicy")
    (pods,) = (one for one in made if one["kind"] in ("StatefulSet", "DaemonSet"))
    chosen = policy["spec"]["podSelector"]["matchLabels"].items()
    assert chosen <= pods["spec"]["template"]["metadata"]["labels"].items()
    operator = policy["spec"]["ingress"][0]["from"][1]["namespaceSelector"]["matchLabels"]
    assert operator == {"kubernetes.io/metadata.name": "fleets"}


def test_a_server_elsewhere_has_none() -> None:
    node = resource("OllamaNode", "a", {"external": {"url": "http://box:11434"}})
    assert plan_ollamanode(node, Observed(None, (), {}, {}), NOW).apply == ()
