"""Least privilege: the programs are refused nothing, and granted nothing they do not use.

It runs after all other cluster tests, over every call that any of them made a program make.
"""

from __future__ import annotations

import pytest

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import Object
from tests.cluster.audit import Audit, entries
from tests.cluster.fleet import OPERATOR
from tests.cluster.grants import RBAC, Grant, Ledger

ROLE = "ollama-fleet-operator"
OURS = {"app.kubernetes.io/part-of": "ollama-fleet"}


@pytest.fixture(scope="module")
def told(whole: None, cluster: Cluster, ledger: Ledger) -> Ledger:
    """What all clusters tell."""
    ledger.read(entries(Audit.log(cluster)))
    return ledger


def test_nothing_is_granted_that_is_not_used(told: Ledger) -> None:
    assert len({grant.role for grant in told.granted}) >= 5
    assert told.unused == []


def test_no_other_role_is_leant_on(told: Ledger) -> None:
    assert told.borrowed == []


def test_nothing_is_refused(told: Ledger) -> None:
    assert told.refused == []


def role(*rules: Object, **metadata: Object) -> Object:
    """An entry of the log: a role is written."""
    meta = {"name": ROLE, "labels": OURS, **metadata}
    made = {"kind": "ClusterRole", "metadata": meta, "rules": rules}
    return {**call("create", "clusterroles", RBAC, role="cluster-admin"), "responseObject": made}


def call(
    verb: str,
    resource: str,
    group: str = "",
    *,
    role: str = ROLE,
    code: int = 200,
    message: str = "",
    body: Object | None = None,
) -> Object:
    """An entry of the log: something is asked for, and a role allows it or none does."""
    reason = f'RBAC: allowed by RoleBinding "x/y" of Role "{role}" to ServiceAccount "a/b"'
    name, _, sub = resource.partition("/")
    return {
        "verb": verb,
        "requestURI": f"/{resource}",
        "user": {"username": f"system:serviceaccount:{OPERATOR}:{OPERATOR}"},
        "objectRef": {"resource": name, "apiGroup": group, **({"subresource": sub} if sub else {})},
        "requestObject": body or {},
        "responseStatus": {"code": code, "message": message},
        "stageTimestamp": "2026-01-01T00:00:00.000000Z",
        "annotations": {
            "authorization.k8s.io/decision": "allow" if role else "forbid",
            "authorization.k8s.io/reason": reason if role else "",
        },
    }


OWNED = {
    "metadata": {
        "ownerReferences": [
            {
                "apiVersion": "ollamafleet.dev/v1alpha1",
                "kind": "Router",
                "blockOwnerDeletion": True,
            }
        ]
    }
}


@pytest.mark.parametrize(
    ("entry", "used"),
    [
        (call("get", "pods"), {("", "pods", "get")}),
        (call("patch", "routers/status", "a.b"), {("a.b", "routers/status", "patch")}),
        (call("patch", "services"), {("", "services", "patch")}),
        (
            call("patch", "services", code=201),
            {("", "services", "patch"), ("", "services", "create")},
        ),
        (
            call("patch", "deployments", "apps", body=OWNED),
            {
                ("apps", "deployments", "patch"),
                ("ollamafleet.dev", "routers/finalizers", "update"),
            },
        ),
        (
            call("create", "rolebindings", RBAC, body={"roleRef": {"kind": "ClusterRole"}}),
            {(RBAC, "rolebindings", "create"), (RBAC, "clusterroles", "bind")},
        ),
        (call("get", "pods", role=""), set()),
    ],
)
def test_what_a_call_uses(entry: Object, used: set[tuple[str, str, str]]) -> None:
    ledger = Ledger()
    ledger.read([entry])
    assert ledger.used == {Grant(ROLE, *one) for one in used}


def test_what_nobody_used_is_named() -> None:
    rule = {"apiGroups": ["", "apps"], "resources": ["a", "b"], "verbs": ["get"]}
    ledger = Ledger()
    ledger.read([role(rule), call("get", "a"), call("get", "b", "apps"), call("list", "a")])
    assert ledger.unused == [f"{ROLE}: get b", f"{ROLE}: get a.apps"]


@pytest.mark.parametrize(
    "metadata",
    [{"labels": {}}, {"labels": {**OURS, f"{RBAC}/aggregate-to-view": "true"}}],
    ids=["another's", "people's"],
)
def test_roles_that_are_not_the_programs_do_not_count(metadata: Object) -> None:
    ledger = Ledger()
    ledger.read([role({"apiGroups": [""], "resources": ["a"], "verbs": ["get"]}, **metadata)])
    assert not ledger.granted


@pytest.mark.parametrize(
    ("entry", "refused"),
    [
        (call("get", "pods", role="", code=403), True),
        (call("patch", "pods", code=403, message="cannot set blockOwnerDeletion"), True),
        (call("patch", "roles", code=403, message="grant permissions not currently held"), True),
        (call("patch", "pods", code=403, message="exceeded quota: few"), False),
        (call("get", "pods", code=404), False),
    ],
)
def test_a_quota_is_no_refusal(entry: Object, refused: bool) -> None:
    ledger = Ledger()
    ledger.read([entry])
    assert bool(ledger.refused) is refused


def test_what_is_allowed_a_moment_later_was_no_refusal() -> None:
    ledger = Ledger()
    ledger.read([call("get", "pods", role="", code=403), call("get", "pods")])
    assert not ledger.refused
    ledger.read([call("get", "nodes", role="", code=403), call("list", "nodes")])
    assert [one.verb for one in ledger.refused] == ["get"]


def routers(verb: str, name: str, code: int = 200) -> Object:
    """An entry of the log: something is done to the Routers of the namespace `a`."""
    entry = call(verb, "routers", "ollamafleet.dev", code=code)
    return {**entry, "objectRef": {**entry["objectRef"], "namespace": "a", "name": name}}


def namespace_deleted(name: str) -> Object:
    entry = call("delete", "namespaces")
    return {**entry, "objectRef": {**entry["objectRef"], "name": name}}


@pytest.mark.parametrize(
    ("before", "counts"),
    [
        ([], True),
        ([routers("delete", "chat")], False),
        ([routers("delete", "other")], True),
        ([routers("delete", "chat", code=403)], True),
        ([routers("deletecollection", "")], False),
        ([routers("delete", "chat"), routers("patch", "chat")], False),
        ([routers("delete", "chat"), routers("patch", "chat", code=201)], True),
        ([routers("deletecollection", ""), routers("create", "chat", code=201)], True),
        ([namespace_deleted("a")], False),
        ([namespace_deleted("b")], True),
    ],
)
def test_a_deleted_routers_pods_may_outlive_its_role(before: list[Object], counts: bool) -> None:
    late = call("get", "secrets", role="", code=403)
    late["user"] = {"username": "system:serviceaccount:a:chat-router"}
    ledger = Ledger()
    ledger.read([*before, late])
    assert bool(ledger.refused) is counts


@pytest.mark.parametrize(
    ("account", "counts"),
    [(f"{OPERATOR}:{OPERATOR}", 1), ("test-1:chat-router", 1), ("test-1:reader", 0)],
)
def test_only_the_programs_have_to_keep_to_their_roles(account: str, counts: int) -> None:
    ledger = Ledger()
    by = {"user": {"username": f"system:serviceaccount:{account}"}}
    ledger.read([{**call("get", "a"), **by}, {**call("get", "b", role="", code=403), **by}])
    assert ledger.used
    assert (len(ledger.borrowed), len(ledger.refused)) == (counts, counts)
