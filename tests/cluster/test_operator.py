"""The operator itself: at rest, killed, replaced, contradicted."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from ollama_fleet.kube.kinds import (
    DEPLOYMENT,
    LEASE,
    MODEL_DISTRIBUTION,
    NETWORK_POLICY,
    OLLAMA_NODE,
    ROLE_BINDING,
    ROUTER,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Object,
)
from tests.cluster.audit import Audit, Call
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import (
    LARGE,
    OPERATOR,
    SMALL,
    Api,
    Fleet,
    distribution,
    ollama_node,
    router,
    standing,
)
from tests.cluster.operating import operating
from tests.cluster.waiting import eventually

WHO = f"{OPERATOR}:{OPERATOR}"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = (
    (OLLAMA_NODE, "a"),
    (MODEL_DISTRIBUTION, "m"),
    (ROUTER, "chat"),
    (STATEFUL_SET, "a"),
    (SERVICE, "a-servers"),
    (NETWORK_POLICY, "a-servers"),
    (DEPLOYMENT, "chat-router"),
    (SERVICE, "chat"),
    (SERVICE_ACCOUNT, "chat-router"),
    (ROLE_BINDING, "chat-router"),
)


def bring_up(fleet: Fleet, rate: str = "0") -> None:
    """Two servers with two models, and a router."""
    fleet.apply(
        ollama_node(replicas=2, server_env={"EMULATOR_PULL_BYTES_PER_SECOND": rate}),
        distribution("m", SMALL, LARGE),
        router(),
    )


def all_ready(fleet: Fleet) -> None:
    for kind, name in OURS[:3]:
        fleet.ready(kind, name)
    # the models are known to all, and no more is on its way
    fleet.until(ROUTER, "chat", lambda obj: obj["status"]["models"] == [LARGE, SMALL])
    fleet.until(OLLAMA_NODE, "a", lambda obj: obj["status"]["models"] == 2)
    # routers have been asked what is under way
    fleet.until(
        OLLAMA_NODE,
        "a",
        lambda obj: all("activeRequests" in one for one in obj["status"]["servers"]),
    )


def versions(fleet: Fleet) -> dict[str, str]:
    """The resourceVersions of everything of ours."""
    return {
        f"{kind} {name}": (fleet.get(kind, name) or {})["metadata"]["resourceVersion"]
        for kind, name in OURS
    }


def leader(api: Api) -> str:
    """Who holds the Lease; empty if nobody does."""
    lease = api.get(LEASE, "ollama-fleet-operator", OPERATOR) or {}
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def test_a_fleet_at_rest_is_left_alone(fleet: Fleet) -> None:
    bring_up(fleet)
    all_ready(fleet)
    fleet.rests(3)
    before = versions(fleet)
    quiet = Audit(fleet.cluster)
    fleet.rests(20)
    assert versions(fleet) == before
    calls = Counter((call.verb, call.resource) for call in quiet.of(WHO) if _ours(fleet, call))
    renewals = calls.pop(("update", "leases"))
    assert 5 <= renewals <= 12
    assert not calls


def _ours(fleet: Fleet, call: Call) -> bool:
    """Whether a call concerns this test: other tests' namespaces are on their way out, and the
    lists that look for missed changes come when they come."""
    reading = call.verb in ("watch", "list")
    return call.namespace in ("", OPERATOR, fleet.namespace) and not reading


def test_a_rolling_restart_hands_over_at_once_and_changes_nothing(
    fleet: Fleet, api: Api, kubectl: Kubectl
) -> None:
    bring_up(fleet)
    all_ready(fleet)
    fleet.rests(2)
    before, events = versions(fleet), len(fleet.reasons(ROUTER, "chat"))
    first, audit = leader(api), Audit(fleet.cluster)
    kubectl("rollout", "restart", f"deployment/{OPERATOR}", "-n", OPERATOR)
    eventually("another leads", lambda: leader(api) not in ("", first))
    kubectl("rollout", "status", f"deployment/{OPERATOR}", "-n", OPERATOR, "--timeout=60s")
    leases = [call for call in audit.of(WHO) if call.resource == "leases" and call.code == 200]
    assert _handover(leases) < 3.0
    # it has looked at all of them by the time it repairs one
    fleet.patch(SERVICE, "chat", {"metadata": {"labels": {"app.kubernetes.io/name": "other"}}})
    eventually("it works", lambda: _label(fleet) == "ollama-fleet-router")
    fleet.rests(3)
    after = versions(fleet)
    del before["Service chat"], after["Service chat"]
    assert after == before
    assert len(fleet.reasons(ROUTER, "chat")) == events


def _label(fleet: Fleet) -> str:
    labels: Object = (fleet.get(SERVICE, "chat") or {})["metadata"]["labels"]
    return str(labels["app.kubernetes.io/name"])


def _handover(leases: list[Call]) -> float:
    """Seconds from the last write of the Lease before a look that found it free, to the next."""
    writes = [datetime.fromisoformat(call.at) for call in leases if call.verb == "update"]
    looks = [datetime.fromisoformat(call.at) for call in leases if call.verb == "get"]
    taken = next(write for write in writes if write > looks[-1])
    released = max(write for write in writes if write < looks[-1])
    return (taken - released).total_seconds()


def end_state(fleet: Fleet) -> dict[str, Any]:
    """Specs and statuses of everything of ours, without what differs from run to run."""
    found = {}
    for kind, name in OURS:
        obj = fleet.get(kind, name) or {}
        parts = {key: obj.get(key) for key in ("spec", "status", "roleRef", "subjects")}
        parts["labels"] = obj["metadata"].get("labels")
        if kind in (STATEFUL_SET, DEPLOYMENT, SERVICE):
            del parts["status"]
        text = json.dumps(_lasting(parts), sort_keys=True).replace(fleet.namespace, "NAMESPACE")
        found[f"{kind} {name}"] = json.loads(re.sub(r"//127\.[0-9.]+:\d+", "//ADDRESS", text))
    return found


_PASSING = re.compile(
    r".*(At|Seen|Time)|id|clusterIPs?|nodePort|kubernetesNode|observedGeneration|updatedAt"
    r"|ollamafleet\.dev/template"  # a digest of what names the namespace
)


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(one) for key, one in value.items() if not _PASSING.fullmatch(key)}
    return [_lasting(one) for one in value] if isinstance(value, list) else value


def test_killed_at_many_moments_it_ends_the_same(
    fleet: Fleet, another: Fleet, alone: None, tmp_path: Path
) -> None:
    bring_up(another, rate="6M")
    with operating(another, tmp_path):
        all_ready(another)
        another.rests(2)
    wanted = end_state(another)

    bring_up(fleet, rate="6M")
    kills = 0
    for _ in range(9):
        written = len(fleet.writes())
        with operating(fleet, tmp_path):
            enough = written + 1 + kills % 4
            eventually("it goes on", partial(_wrote, fleet, enough), within=30)
        kills += 1
        if _done(fleet):
            break
    assert kills >= 6
    with operating(fleet, tmp_path):
        all_ready(fleet)
        fleet.rests(2)
        assert end_state(fleet) == wanted
    created = Counter(
        (call.resource, call.name)
        for call in fleet.writes()
        if call.code == 201 and call.resource != "events"
    )
    assert set(created.values()) == {1}
    assert not [call for call in fleet.writes() if call.verb == "delete"]
    assert "Traceback" not in (tmp_path / "operator.log").read_text()


def _wrote(fleet: Fleet, count: int) -> bool:
    return len(fleet.writes()) >= count or _done(fleet)


def _done(fleet: Fleet) -> bool:
    now = standing(fleet.get(MODEL_DISTRIBUTION, "m") or {})
    return now is not None and now.ready


def test_what_others_change_is_put_back_and_what_they_add_stays(
    fleet: Fleet, kubectl: Kubectl
) -> None:
    fleet.apply(ollama_node(), router())
    fleet.ready(OLLAMA_NODE, "a")
    fleet.ready(ROUTER, "chat")
    here = ("-n", fleet.namespace)
    kubectl("annotate", "statefulset/a", "example.com/owner=me", *here)
    kubectl("annotate", "deployment/chat-router", "example.com/owner=me", *here)
    kubectl("scale", "statefulset/a", "--replicas=3", *here)
    kubectl("scale", "deployment/chat-router", "--replicas=0", *here)
    gone = ("service/a-servers", "networkpolicy/a-servers", "rolebinding/chat-router")
    kubectl("delete", *gone, "--wait=false", *here)
    fleet.until(STATEFUL_SET, "a", lambda obj: obj["spec"]["replicas"] == 1)
    fleet.until(DEPLOYMENT, "chat-router", lambda obj: obj["spec"]["replicas"] == 1)
    recreated = (
        (SERVICE, "a-servers"),
        (NETWORK_POLICY, "a-servers"),
        (ROLE_BINDING, "chat-router"),
    )
    for kind, name in recreated:
        fleet.until(kind, name, lambda obj: not obj["metadata"].get("deletionTimestamp"))
    fleet.ready(OLLAMA_NODE, "a")
    fleet.ready(ROUTER, "chat")
    for kind, name in ((STATEFUL_SET, "a"), (DEPLOYMENT, "chat-router")):
        annotations = (fleet.get(kind, name) or {})["metadata"]["annotations"]
        assert annotations["example.com/owner"] == "me"
    # it is watched by this label, so it has to be missed and asked for
    fleet.patch(STATEFUL_SET, "a", {"metadata": {"labels": {MANAGED_BY: None}}})
    fleet.until(STATEFUL_SET, "a", lambda obj: MANAGED_BY in obj["metadata"]["labels"])


def notes_of(pod: Object) -> dict[str, str]:
    """Of a pod or a template, without what the operator adds by itself."""
    found = pod["metadata"]["annotations"]
    return {name: value for name, value in found.items() if "ollamafleet.dev/" not in name}


def test_a_field_that_another_manager_adds_to_pods_is_no_reason_to_write(
    fleet: Fleet, kubectl: Kubectl
) -> None:
    fleet.apply(ollama_node())
    fleet.ready(OLLAMA_NODE, "a")
    added = {"spec": {"template": {"metadata": {"annotations": {"example.com/note": "x"}}}}}
    fleet.patch(STATEFUL_SET, "a", added)
    fleet.until(OLLAMA_NODE, "a", lambda obj: (now := standing(obj)) and not now.ready)
    fleet.ready(OLLAMA_NODE, "a")
    template = (fleet.get(STATEFUL_SET, "a") or {})["spec"]["template"]
    assert notes_of(template) == {"example.com/note": "x"}
    (pod,) = fleet.pods("a")
    assert notes_of(pod) == {"example.com/note": "x"}
    writes = [call for call in fleet.writes() if call.resource == "statefulsets"]
    assert len(writes) == 1


def test_a_field_taken_from_the_spec_is_taken_from_its_pods(fleet: Fleet) -> None:
    template = {"nodeSelector": {"kubernetes.io/os": "linux"}, "annotations": {"a": "1", "b": "2"}}
    fleet.apply(ollama_node(template=template))
    fleet.ready(OLLAMA_NODE, "a")
    fleet.apply(ollama_node(template={"annotations": {"a": "1"}}))

    def follows(obj: Object) -> bool:
        pods = obj["spec"]["template"]
        return "nodeSelector" not in pods["spec"] and notes_of(pods) == {"a": "1"}

    fleet.until(STATEFUL_SET, "a", follows)
    fleet.ready(OLLAMA_NODE, "a")
