"""Who may call a Router, and by which door: keys, HTTPS, Ingress and HTTPRoute."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dev.ollama.certificates import server_pair
from ollama_fleet.api.tls import trust
from ollama_fleet.kube.kinds import (
    CUSTOM_RESOURCE_DEFINITION,
    HTTP_ROUTE,
    INGRESS,
    MODEL_DISTRIBUTION,
    POD,
    ROLE,
    ROUTER,
    SECRET,
    SERVICE,
    Object,
)
from tests.cluster.fleet import OPERATOR, SMALL, Api, Fleet, distribution, ollama_node, router
from tests.cluster.operating import operating
from tests.cluster.waiting import eventually

BODY = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
KEYS: Object = {"auth": {"keysSecretRef": {"name": "keys"}}}


def put_secret(fleet: Fleet, name: str, kind: str = "Opaque", **entries: str) -> None:
    """Make the Secret, or have it hold these entries and no others."""
    data = {
        key.replace("__", "."): base64.b64encode(one.encode()).decode()
        for key, one in entries.items()
    }
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind}
    if fleet.get(SECRET, name) is None:
        fleet.api.call("POST", SECRET.path(fleet.namespace), {**made, "data": data})
    else:
        fleet.api.call("PUT", SECRET.path(fleet.namespace, name), {**made, "data": data})


def entry(key: str, **limits: Any) -> str:
    return json.dumps({"sha256": sha256(key.encode()).hexdigest(), **limits})


def ask(url: str, key: str = "", verify: ssl.SSLContext | bool = False, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(verify=verify, timeout=20, trust_env=False) as client:
        return client.post(f"{url}/api/chat", json={**BODY, **more}, headers=headers)


def status_of(url: str, key: str = "", **more: Any) -> int:
    """0 while nobody listens there."""
    try:
        return int(ask(url, key, **more).status_code)
    except httpx2.ConnectError:
        return 0


def test_keys_are_asked_for_followed_and_their_faults_told(fleet: Fleet) -> None:
    fleet.apply(ollama_node(), distribution("m", SMALL), router(**KEYS))
    message = fleet.stalls(ROUTER, "chat", "SecretMissing")
    assert f"kubectl -n {fleet.namespace} create secret generic keys" in message
    fleet.ready(MODEL_DISTRIBUTION, "m")
    (pod,) = fleet.all(POD, "ollamafleet.dev/router=chat")
    direct = f"http://{pod['status']['podIP']}:11434"
    eventually("nobody is served meanwhile", lambda: status_of(direct, "one") == 503, within=10)

    put_secret(fleet, "keys", a=entry("one"), b=entry("two", models=["other"], requestsPerMinute=9))
    url = fleet.url()
    eventually("the model is there", lambda: status_of(url, "one") == 200)
    assert [status_of(url, key) for key in ("", "three", "two")] == [401, 401, 403]
    tags = httpx2.get(f"{url}/api/tags", headers={"x-api-key": "two"}, trust_env=False)
    assert tags.json() == {"models": []}
    assert httpx2.get(url, trust_env=False).status_code == 200

    put_secret(fleet, "keys", c=entry("four", requestsPerMinute=2))
    eventually("the key taken away is refused", lambda: status_of(url, "one") == 401, within=5)
    answers = [ask(url, "four") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 61

    put_secret(fleet, "keys", c=entry("four", requestsPerMinut=2), b=entry("two"))
    message = fleet.stalls(ROUTER, "chat", "InvalidSecret")
    assert "Secret keys: entry c: requestsPerMinut: there is no such field" in message
    assert (status_of(url, "four"), status_of(url, "two")) == (429, 200)  # the others count on
    (role,) = [one for one in fleet.all(ROLE) if one["metadata"]["name"] == "chat-router-secrets"]
    assert [rule["resourceNames"] for rule in role["rules"]] == [["keys"]]
    assert [rule["verbs"] for rule in role["rules"]] == [["get"]]

    fleet.patch(ROUTER, "chat", {"spec": {"auth": None}})
    fleet.ready(ROUTER, "chat")
    eventually("nobody is asked any more", lambda: status_of(url) == 200)


def test_https_with_a_certificate_that_changes(fleet: Fleet, tmp_path: Path) -> None:
    def renew() -> ssl.SSLContext:
        certificate, key = server_pair("127.0.0.1.nip.io", tmp_path)
        pair = {"tls__crt": certificate, "tls__key": key}
        put_secret(fleet, "cert", "kubernetes.io/tls", **pair)
        return trust((tmp_path / "ca.pem").read_text())

    def served(trusted: ssl.SSLContext) -> bool:
        with httpx2.Client(verify=trusted, trust_env=False) as client:
            try:
                named = {"sni_hostname": "127.0.0.1.nip.io"}
                return client.get(f"{url}/api/tags", extensions=named).status_code == 200
            except httpx2.ConnectError:
                return False

    fleet.apply(ollama_node(), router(tls={"secretName": "cert"}))
    message = fleet.stalls(ROUTER, "chat", "SecretMissing")
    assert "create secret tls cert --cert=… --key=…" in message
    old = renew()
    url = fleet.url()
    assert url.startswith("https://")
    ports = (fleet.get(SERVICE, "chat") or {})["spec"]["ports"]
    assert [port["name"] for port in ports] == ["https"]
    eventually("it serves HTTPS", lambda: served(old))
    pods = fleet.all(POD, "ollamafleet.dev/router=chat")
    new = renew()
    eventually("new connections take the new certificate", lambda: served(new), within=10)
    assert not served(old)

    other, _ = server_pair("127.0.0.1.nip.io", tmp_path)
    put_secret(fleet, "cert", "kubernetes.io/tls", tls__crt=other, tls__key=_key_in(fleet, "cert"))
    message = fleet.stalls(ROUTER, "chat", "InvalidSecret")
    assert "tls.key is not the key of the certificate in tls.crt" in message
    assert served(new)
    names = [pod["metadata"]["name"] for pod in fleet.all(POD, "ollamafleet.dev/router=chat")]
    assert names == [pod["metadata"]["name"] for pod in pods]

    fleet.patch(ROUTER, "chat", {"spec": {"tls": None}})
    plain = fleet.until(
        ROUTER,
        "chat",
        lambda obj: obj["status"]["url"] if obj["status"]["url"].startswith("http:") else None,
    )
    fleet.ready(ROUTER, "chat")
    eventually("plain HTTP again", lambda: _answers(plain))


def _key_in(fleet: Fleet, name: str) -> str:
    secret = fleet.get(SECRET, name) or {}
    return base64.b64decode(secret["data"]["tls.key"]).decode()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def test_an_ingress_comes_is_kept_and_goes(fleet: Fleet) -> None:
    wanted = {"host": "chat.example.com", "className": "nginx", "annotations": {"a.b/c": "d"}}
    fleet.apply(ollama_node(), router(ingress=wanted))
    fleet.ready(ROUTER, "chat")
    assert fleet.status(ROUTER, "chat")["url"] == "http://chat.example.com"
    made = fleet.get(INGRESS, "chat-router") or {}
    assert made["spec"]["rules"][0]["host"] == "chat.example.com"
    assert made["metadata"]["annotations"]["a.b/c"] == "d"
    assert [owner["kind"] for owner in made["metadata"]["ownerReferences"]] == ["Router"]

    fleet.patch(INGRESS, "chat-router", {"spec": {"ingressClassName": "other"}})
    fleet.until(INGRESS, "chat-router", lambda obj: obj["spec"]["ingressClassName"] == "nginx")
    fleet.patch(ROUTER, "chat", {"spec": {"ingress": {"tlsSecretName": "chat-tls"}}})
    fleet.until(INGRESS, "chat-router", lambda obj: obj["spec"].get("tls"))
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["url"] == "https://chat.example.com")
    fleet.rests(3)
    fleet.patch(ROUTER, "chat", {"spec": {"ingress": None}})
    fleet.gone(INGRESS, "chat-router")
    fleet.until(ROUTER, "chat", lambda obj: "example.com" not in obj["status"]["url"])


GATEWAY_API: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "httproutes.gateway.networking.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
    },
    "spec": {
        "group": "gateway.networking.k8s.io",
        "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            }
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture
def later(api: Api) -> Iterator[Any]:
    """Call it to install HTTPRoutes, which go in the end."""
    name = GATEWAY_API["metadata"]["name"]
    yield lambda: api.call("POST", CUSTOM_RESOURCE_DEFINITION.path(), GATEWAY_API)
    if api.get(CUSTOM_RESOURCE_DEFINITION, name) is not None:
        api.call("DELETE", CUSTOM_RESOURCE_DEFINITION.path(name=name))
        eventually("they are gone", lambda: not api.get(CUSTOM_RESOURCE_DEFINITION, name))


def test_an_http_route_waits_for_the_gateway_api(fleet: Fleet, later: Any) -> None:
    fleet.apply(ollama_node(), router(httpRoute={"parentRefs": [{"name": "public"}]}))
    message = fleet.stalls(ROUTER, "chat", "Unsupported")
    assert "spec.httpRoute needs HTTPRoute objects, which cannot be had: the cluster has" in message
    assert "Install the Gateway API" in message
    eventually(
        "the router itself is up", lambda: fleet.status(ROUTER, "chat").get("readyReplicas") == 1
    )
    later()
    fleet.ready(ROUTER, "chat")  # without a restart of the operator
    made = fleet.get(HTTP_ROUTE, "chat-router") or {}
    (backend,) = made["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == ("chat", 11434)
    fleet.rests(3)
    fleet.patch(ROUTER, "chat", {"spec": {"httpRoute": None}})
    fleet.gone(HTTP_ROUTE, "chat-router")
    (pod,) = fleet.api.all(POD, OPERATOR, "app.kubernetes.io/component=operator")
    assert all(one["restartCount"] == 0 for one in pod["status"]["containerStatuses"])


def test_an_http_route_is_kept_as_it_is_wanted(
    fleet: Fleet, alone: None, later: Any, tmp_path: Path
) -> None:
    later()
    fleet.apply(ollama_node(), router(httpRoute={"parentRefs": [{"name": "public"}]}))
    with operating(fleet, tmp_path):
        fleet.until(ROUTER, "chat", lambda _: fleet.get(HTTP_ROUTE, "chat-router"))
        fleet.patch(HTTP_ROUTE, "chat-router", {"spec": {"parentRefs": [{"name": "other"}]}})
        fleet.until(
            HTTP_ROUTE, "chat-router", lambda obj: obj["spec"]["parentRefs"][0]["name"] == "public"
        )
    fleet.patch(ROUTER, "chat", {"spec": {"httpRoute": None}})
    with operating(fleet, tmp_path):
        fleet.gone(HTTP_ROUTE, "chat-router")
