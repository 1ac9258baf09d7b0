from typing import Any

import pytest

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.router import Observed, Program, backend_secrets, plan_router
from ollama_fleet.plan.troubles import Trouble
from tests.unit.plan.objects import DIGEST, NOW, Object, pod, probe, resource, server

PROGRAM = Program("ollama-fleet:1", "ollama-fleet-router")
RUNNING = {
    "metadata": {"generation": 1},
    "status": {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1},
}


def plan(spec: Object, deployment: Object | None = None, *servers: Any, **more: Any) -> Any:
    nodes, troubles = more.get("ollamanodes", ()), more.get("secret_troubles", ())
    pods = more.get("pods", ())
    observed = Observed(deployment, more.get("service"), pods, servers, nodes, troubles)
    return plan_router(resource("Router", "chat", spec), observed, PROGRAM, NOW)


def ready(made: Any) -> tuple[str, str]:
    one = made.status["conditions"][0]
    return one["status"], one["reason"]


def of_now(spec: Object, pod: Object) -> Object:
    """The pod as the Deployment of that spec makes it."""
    template = plan(spec, None, server()).apply[-1]["spec"]["template"]
    pod["metadata"]["annotations"] = template["metadata"]["annotations"]
    return pod


def test_a_router_is_a_deployment_a_service_and_the_least_rights() -> None:
    account, binding, role, second, service, deployment = plan({}, None, server()).apply
    assert account["kind"] == "ServiceAccount"
    assert binding["roleRef"]["name"] == "ollama-fleet-router"
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert second["roleRef"]["name"] == role["metadata"]["name"]
    assert second["subjects"] == binding["subjects"]
    assert role["rules"] == []
    assert service["spec"]["ports"][0]["port"] == 11434
    pod = deployment["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert pod["containers"][0]["image"] == "ollama-fleet:1"
    selector = deployment["spec"]["selector"]["matchLabels"].items()
    assert selector <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_ready_when_its_pods_are() -> None:
    one = server(probe=probe(llama3_1__8b=DIGEST))
    made = plan({}, RUNNING, one, server("a-1", state="Offline"))
    assert ready(made) == ("True", "Ready")
    assert made.status["servers"] == {"ready": 1, "total": 2, "summary": "1/2"}
    assert made.status["models"] == ["llama3.1:8b"]
    assert made.status["url"] == "http://chat.llm.svc:11434"


def test_not_ready_before_the_deployment_is_seen_at_its_newest() -> None:
    stale = {"metadata": {"generation": 2}, "status": RUNNING["status"]}
    assert ready(plan({}, stale, server())) == ("False", "Progressing")


def test_not_ready_while_routers_of_before_are_still_there() -> None:
    shrinking = {**RUNNING, "status": {**RUNNING["status"], "replicas": 2, "readyReplicas": 2}}
    assert ready(plan({"replicas": 1}, shrinking, server())) == ("False", "Progressing")


def test_no_server_to_route_to_waits_on_the_user() -> None:
    assert ready(plan({}, RUNNING)) == ("False", "NoServers")
    assert ready(plan({"backends": [{"url": "http://x:1"}]}, RUNNING))[0] == "True"


def test_servers_that_are_yet_to_come_are_waited_for() -> None:
    nodes = (resource("OllamaNode", "a", {"replicas": 1}),)
    select = {"select": {"ollamaNodes": ["a"]}}
    assert ready(plan(select, None, ollamanodes=nodes)) == ("False", "Progressing")
    select = {"select": {"ollamaNodes": ["b"]}}
    assert ready(plan(select, None, ollamanodes=nodes)) == ("False", "NoServers")


def test_a_router_that_no_machine_takes_says_what_to_do() -> None:
    waiting = of_now({}, pod("chat-router-1", on=None, ready=False))
    waiting["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available.",
        }
    ]
    made = plan({}, None, server(), pods=(waiting,))
    assert ready(made) == ("False", "Unschedulable")
    assert made.status["conditions"][0]["message"].startswith("0/3 nodes are available. Lower")


def test_a_pod_of_an_earlier_template_accuses_no_spec_of_now() -> None:
    wrong = {"image": {"repository": "wrong/image", "tag": "1"}}
    failing = of_now(wrong, pod("chat-router-1", ready=False))
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    failing["status"]["containerStatuses"] = [{"name": "router", "state": {"waiting": waiting}}]
    assert ready(plan(wrong, None, server(), pods=(failing,))) == ("False", "ImagePullFailed")
    assert ready(plan({}, None, server(), pods=(failing,))) == ("False", "Progressing")


def test_routers_that_may_not_be_made_say_why() -> None:
    failed = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
    deployment = {**RUNNING, "status": {**RUNNING["status"], "conditions": [failed]}}
    made = plan({}, deployment, server())
    assert ready(made) == ("False", "PodRefused")
    assert "exceeded quota: pods" in made.status["conditions"][0]["message"]


def test_the_load_balancers_address_is_the_url() -> None:
    ingress = [{"ip": "127.0.0.1", "ports": [{"port": 11500, "protocol": "TCP"}]}]
    service = {"status": {"loadBalancer": {"ingress": ingress}}}
    made = plan({"service": {"type": "LoadBalancer"}}, RUNNING, server(), service=service)
    assert made.status["url"] == "http://127.0.0.1:11500"


BACKENDS = [
    {"url": "https://x:1", "headersSecretRef": {"name": "x"}, "caSecretRef": {"name": "x-ca"}},
    {"url": "https://z:1", "caSecretRef": {"name": "x-ca"}},
    {"url": "http://y:1"},
]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, ["box", "box-ca", "other"]),
        ({"backends": BACKENDS}, ["box", "box-ca", "other", "x", "x-ca"]),
        ({"select": {"ollamaNodes": ["box"]}}, ["box", "box-ca"]),
        ({"select": {"ollamaNodes": ["plain"]}}, None),
    ],
)
def test_a_router_may_read_the_secrets_of_its_servers_by_name(
    spec: Object, names: list[str] | None
) -> None:
    boxes = [
        server("box", ollamanode="box", secrets=("box", "box-ca"), state="Offline"),
        server("other", ollamanode="other", secrets=("other", "box-ca")),
        server("plain", ollamanode="plain"),
    ]
    role = next(one for one in plan(spec, RUNNING, *boxes).apply if one["kind"] == "Role")
    # a rule without names would grant every Secret
    assert [rule["resourceNames"] for rule in role["rules"]] == ([names] if names else [])
    assert all(rule["resources"] == ["secrets"] for rule in role["rules"])
    assert all(rule["verbs"] == ["get"] for rule in role["rules"])


def test_a_backend_without_its_secret_stalls_and_the_others_are_served() -> None:
    missing = Trouble(Reason.SECRET_MISSING, "Secret x does not exist.")
    made = plan({"backends": BACKENDS}, RUNNING, secret_troubles=(missing,))
    assert ready(made) == ("False", "SecretMissing")
    assert "Deployment" in [one["kind"] for one in made.apply]
    found = backend_secrets({"backends": BACKENDS})
    assert found == [SecretRefs("x", "x-ca"), SecretRefs(None, "x-ca")]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"auth": {"keysSecretRef": {"name": "keys"}}}, "spec.auth"),
        ({"tls": {"secretName": "x"}}, "spec.tls"),
    ],
)
def test_authentication_that_is_not_served_is_never_passed_over(spec: Object, field: str) -> None:
    made = plan(spec, RUNNING, server())
    assert made.apply == ()
    assert ready(made) == ("False", "Unsupported")
    assert field in made.status["conditions"][0]["message"]
