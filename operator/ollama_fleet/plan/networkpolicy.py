"""Who may talk to an OllamaNode's servers: Ollama itself asks nobody who they are."""

from ollama_fleet.api.ollamanode import PORT
from ollama_fleet.api.servers import OLLAMANODE_LABEL, ROUTER_LABEL, selector
from ollama_fleet.plan.result import Object, child
from ollama_fleet.plan.workload import names

OPERATOR_PODS = {"app.kubernetes.io/name": "ollama-fleet"}
"""The label of the operator's pods, as the chart sets it."""


def network_policy(node: Object, operator_namespace: str) -> Object:
    """Lets in the routers of the same namespace, and the operator, which probes and pulls.

    What goes out is left alone: pulls go to registries. Policies add up, so whoever else should
    get in is let in by a policy of the user's own.
    """
    name, all_labels = names(node)
    made = child(node, "networking.k8s.io/v1", "NetworkPolicy", f"{name}-servers", all_labels)
    routers = {"matchExpressions": [{"key": ROUTER_LABEL, "operator": "Exists"}]}
    there = {"matchLabels": {"kubernetes.io/metadata.name": operator_namespace}}
    made["spec"] = {
        "podSelector": {"matchLabels": selector(OLLAMANODE_LABEL, name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    {"podSelector": routers},
                    {"namespaceSelector": there, "podSelector": {"matchLabels": OPERATOR_PODS}},
                ],
                "ports": [{"port": PORT, "protocol": "TCP"}],
            }
        ],
    }
    return made
