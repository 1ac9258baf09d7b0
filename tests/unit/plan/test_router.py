from typing import Any

import pytest

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.entrances import NO_SUCH_KIND
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
    observed = Observed(
        deployment,
        more.get("service"),
        pods,
        servers,
        nodes,
        troubles,
        more.get("entrances", ()),
        more.get("unread", {}),
    )
    return plan_router(
        resource("Router", "chat", spec), observed, more.get("program", PROGRAM), NOW
    )


def ready(made: Any) -> tuple[str, str]:
    one = made.status["conditions"][0]
    return one["status"], one["reason"]


def of_now(spec: Object, pod: Object) -> Object:
    """The pod as the Deployment of that spec makes it."""
    template = plan(spec, None, server()).apply[-1]["spec"]["template"]
    pod["metadata"]["annotations"] = template["metadata"]["annotations"]
    return pod


def test_where_there_is_no_cluster_role_it_has_a_role() -> None:
    observed = Observed(None, None, (), ())
    program = Program("ollama-fleet:1", "ollama-fleet-router", "fleets-router")
    made = plan_router(resource("Router", "chat", {}), observed, program, NOW)
    first = next(one for one in made.apply if one["kind"] == "RoleBinding")
    usual = next(one for one in plan({}, None).apply if one["kind"] == "RoleBinding")
    assert (first["roleRef"]["kind"], first["roleRef"]["name"]) == ("Role", "fleets-router")
    assert first["subjects"] == usual["subjects"]
    # what a binding binds to can never change
    assert first["metadata"]["name"] != usual["metadata"]["name"]


def test_a_service_account_of_ones_own_has_the_same_rights() -> None:
    made = plan({"template": {"serviceAccountName": "mine"}}, None, server()).apply
    bindings = [one for one in made if one["kind"] == "RoleBinding"]
    assert len(bindings) == 2
    for binding in bindings:
        # pods of before still run as the other
        assert [one["name"] for one in binding["subjects"]] == ["chat-router", "mine"]


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


def test_all_that_is_wrong_is_told_at_once_and_each_once() -> None:
    broken = of_now({}, pod("chat-router-1", ready=False))
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    broken["status"]["containerStatuses"] = [{"name": "router", "state": {"waiting": waiting}}]
    missing = Trouble(Reason.SECRET_MISSING, "Secret x does not exist.")
    made = plan({}, None, server(), pods=(broken, broken), secret_troubles=(missing,))
    assert ready(made) == ("False", "ImagePullFailed")
    message = made.status["conditions"][0]["message"]
    assert message.endswith(" Secret x does not exist.")
    assert message.count("no such image") == 1


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
        (
            {
                "select": {"ollamaNodes": ["plain"]},
                "auth": {"keysSecretRef": {"name": "keys"}},
                "tls": {"secretName": "cert"},
            },
            ["cert", "keys"],
        ),
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


def test_https_is_a_flag_a_port_and_the_url() -> None:
    spec = {"tls": {"secretName": "cert"}}
    made = plan(spec, RUNNING, server())
    service, deployment = made.apply[-2:]
    (port,) = service["spec"]["ports"]
    assert (port["name"], port["appProtocol"], port["targetPort"]) == ("https", "https", "http")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "--tls" in container["args"]
    assert container["readinessProbe"]["httpGet"]["port"] == "metrics"
    assert made.status["url"] == "https://chat.llm.svc:11434"
    (plain,) = plan({}, RUNNING, server()).apply[-1]["spec"]["template"]["spec"]["containers"]
    assert "--tls" not in plain["args"]


INGRESS = {"host": "chat.example.com"}
GATEWAY = {"parentRefs": [{"name": "public", "sectionName": "https"}]}


def entrance(spec: Object, **more: Any) -> Object:
    made: Object = plan(spec, RUNNING, server(), **more).apply[-1]
    return made


def test_an_ingress_leads_to_the_service() -> None:
    made = entrance({"ingress": INGRESS, "service": {"port": 80}})
    assert (made["kind"], made["metadata"]["name"]) == ("Ingress", "chat-router")
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Router"
    backend = {"service": {"name": "chat", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    assert made["spec"] == {"rules": [{"host": "chat.example.com", "http": {"paths": [path]}}]}
    annotations = {"nginx.ingress.kubernetes.io/proxy-buffering": "off"}
    more = {"className": "nginx", "tlsSecretName": "chat-tls", "annotations": annotations}
    made = entrance({"ingress": INGRESS | more})
    assert made["metadata"]["annotations"] == annotations
    assert made["spec"]["ingressClassName"] == "nginx"
    assert made["spec"]["tls"] == [{"hosts": ["chat.example.com"], "secretName": "chat-tls"}]


def test_an_http_route_leads_to_the_service() -> None:
    made = entrance({"httpRoute": GATEWAY | {"hostnames": ["chat.example.com"]}})
    assert (made["kind"], made["metadata"]["name"]) == ("HTTPRoute", "chat-router")
    assert made["spec"]["parentRefs"] == GATEWAY["parentRefs"]
    assert made["spec"]["hostnames"] == ["chat.example.com"]
    (rule,) = made["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "chat", "port": 11434}]
    assert rule["timeouts"] == {"request": "0s"}
    assert "hostnames" not in entrance({"httpRoute": GATEWAY})["spec"]


def test_entrances_that_are_wanted_no_more_go_and_others_stay() -> None:
    mine = [entrance({"ingress": INGRESS}), entrance({"httpRoute": GATEWAY})]
    for one in mine:
        one["metadata"]["uid"] = one["kind"]
    foreign: Object = {"kind": "Ingress", "metadata": {"name": "x", "ownerReferences": []}}

    def deleted(spec: Object) -> list[str]:
        made = plan(spec, RUNNING, server(), entrances=(*mine, foreign))
        return [one["metadata"]["uid"] for one in made.delete]

    assert deleted({"ingress": INGRESS, "httpRoute": GATEWAY}) == []
    assert deleted({"ingress": INGRESS}) == ["HTTPRoute"]
    assert deleted({}) == ["Ingress", "HTTPRoute"]


def test_the_fleet_api_is_handed_on_where_there_is_a_console() -> None:
    made = plan({"fleetApi": True}, RUNNING, server())
    assert ready(made) == ("False", "Unsupported")
    assert "console.enabled=true" in made.status["conditions"][0]["message"]
    assert made.apply == ()
    program = Program(
        "ollama-fleet:1", "ollama-fleet-router", console="http://console.fleet.svc:8080"
    )
    for spec, wanted in (({"fleetApi": True}, True), ({}, False)):
        made = plan(spec, RUNNING, server(), program=program)
        assert ready(made) == ("True", "Ready")
        (deployment,) = (one for one in made.apply if one["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        told = "--console=http://console.fleet.svc:8080" in container["args"]
        assert told is wanted


@pytest.mark.parametrize(
    ("kind", "why", "spec", "remedy"),
    [
        ("HTTPRoute", NO_SUCH_KIND, {"httpRoute": GATEWAY}, "Install the Gateway API, v1.2"),
        ("HTTPRoute", "may not list", {"httpRoute": GATEWAY}, "Apply this version of the chart"),
        ("Ingress", "may not list", {"ingress": INGRESS}, "Apply this version of the chart"),
    ],
)
def test_an_entrance_that_the_cluster_does_not_have(
    kind: str, why: str, spec: Object, remedy: str
) -> None:
    unread = {kind: why}
    made = plan(spec, RUNNING, server(), unread=unread)
    assert ready(made) == ("False", "Unsupported")
    assert remedy in made.status["conditions"][0]["message"]
    kinds = [one["kind"] for one in made.apply]
    assert kind not in kinds
    assert "Deployment" in kinds
    assert ready(plan({}, RUNNING, server(), unread=unread)) == ("True", "Ready")


@pytest.mark.parametrize(
    ("spec", "url"),
    [
        ({"ingress": INGRESS}, "http://chat.example.com"),
        ({"ingress": INGRESS | {"tlsSecretName": "x"}}, "https://chat.example.com"),
        ({"ingress": {"host": "*.example.com"}}, "http://chat.llm.svc:11434"),
        ({"httpRoute": GATEWAY}, "http://chat.llm.svc:11434"),
    ],
)
def test_the_url(spec: Object, url: str) -> None:
    assert plan(spec, RUNNING, server()).status["url"] == url
