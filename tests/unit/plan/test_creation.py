from datetime import datetime, timedelta

import pytest

from ollama_fleet.plan.creation import look_again, mended, missing, refusal
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from ollama_fleet.plan.times import rfc3339
from tests.unit.plan.objects import NOW, Object, machine, pod, probe, resource

LEAD = 'create Pod a-1 in StatefulSet a failed error: pods "a-1" is forbidden: '
QUOTA = "exceeded quota: gpus, requested: pods=1, used: pods=1, limited: pods=1"


def event(note: str, ago: float = 5, reason: str = "FailedCreate") -> Object:
    at = rfc3339(NOW - timedelta(seconds=ago))
    return {"metadata": {}, "reason": reason, "note": note, "deprecatedLastTimestamp": at}


def made(ago: float) -> Object:
    one = pod("a-0")
    one["metadata"]["creationTimestamp"] = rfc3339(NOW - timedelta(seconds=ago))
    return one


def workload(replicas: int | None = 2, observed: int = 1, **status: int) -> Object:
    return {
        "metadata": {"generation": 1, "uid": "w"},
        "spec": {} if replicas is None else {"replicas": replicas},
        "status": {"observedGeneration": observed, **status},
    }


REFUSALS = {
    "quota of pods": (
        LEAD + QUOTA,
        "QuotaExceeded",
        [
            f"Kubernetes makes no pod: {QUOTA}. ",
            "Raise it (kubectl -n llm edit resourcequota gpus), or have fewer servers.",
        ],
    ),
    "quota of memory": (
        'Error creating: pods "a-x" is forbidden: exceeded quota: q, requested: '
        "limits.memory=8Gi,pods=1, used: limits.memory=8Gi,pods=1, limited: limits.memory=9Gi",
        "QuotaExceeded",
        ["or lower spec.resources, or have fewer servers"],
    ),
    "quota of storage": (
        "create Claim models-a-0 for Pod a-0 in StatefulSet a failed error: "
        'persistentvolumeclaims "models-a-0" is forbidden: exceeded quota: disk, requested: '
        "requests.storage=100Gi, used: requests.storage=0, limited: requests.storage=50Gi",
        "QuotaExceeded",
        ["resourcequota disk", "or lower spec.storage.size"],
    ),
    "a quota that asks for limits": (
        LEAD + "failed quota: q: must specify limits.memory for: ollama",
        "PodForbidden",
        ["write it in spec.resources"],
    ),
    "no PriorityClass": (
        LEAD + "no PriorityClass with name gold was found",
        "PodForbidden",
        ["Create PriorityClass gold, or correct spec.template.priorityClassName"],
    ),
    "no service account": (
        LEAD + 'error looking up service account llm/me: serviceaccount "me" not found',
        "PodForbidden",
        ["kubectl -n llm create serviceaccount me", "spec.template.serviceAccountName"],
    ),
    "no RuntimeClass": (
        LEAD + 'pod rejected: RuntimeClass "kata" not found',
        "PodForbidden",
        ["spec.template.runtimeClassName"],
    ),
    "a folder of the machine": (
        LEAD + 'violates PodSecurity "restricted:latest": restricted volume types (volume "models" '
        'uses restricted volume type "hostPath")',
        "PodForbidden",
        ["in place of hostPath", "namespace llm pod-security.kubernetes.io/enforce=privileged"],
    ),
    "not restricted": (
        LEAD + 'violates PodSecurity "restricted:latest": runAsNonRoot != true',
        "PodForbidden",
        ["spec.template.securityContext", "enforce=baseline"],
    ),
    "a limit range": (
        LEAD + "maximum memory usage per Container is 1Gi, but limit is 8Gi",
        "PodForbidden",
        ["LimitRange", "spec.resources"],
    ),
    "a webhook": (
        'Error creating: admission webhook "policy.example.com" denied the request: no latest',
        "PodForbidden",
        ["Kubernetes makes no pod: admission webhook", "no latest", "what that policy asks for"],
    ),
    "a webhook, again and again": (
        "(combined from similar events): Error creating: admission webhook denied the request: no",
        "PodForbidden",
        ["Kubernetes makes no pod: admission webhook denied the request: no. Change"],
    ),
    "a webhook that is away": (
        'Error creating: Internal error occurred: failed calling webhook "x": connection refused',
        "PodForbidden",
        ["must mend it"],
    ),
    "something new": (LEAD + "the moon is full", "PodForbidden", ["the moon is full. Correct"]),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_refusal_is_told_in_kubernetes_words_with_the_remedy(why: str) -> None:
    note, reason, words = REFUSALS[why]
    found = refusal("llm", [event(note)], [], NOW)
    assert found is not None
    assert found.reason == reason
    for word in words:
        assert word in found.message


def test_the_message_is_the_same_whichever_pod_was_tried_last() -> None:
    notes = [LEAD.replace("a-1", name) + QUOTA for name in ("a-1", "a-2")]
    one, other = (refusal("llm", [event(note)], [], NOW) for note in notes)
    assert one is not None
    assert one == other


@pytest.mark.parametrize(
    ("events", "pods"),
    [
        ([], []),
        ([event("Error creating: etcdserver: request timed out")], []),
        ([event(LEAD + QUOTA, ago=1300)], []),
        ([event(LEAD + QUOTA, ago=60)], [made(ago=30)]),
        ([event(LEAD + QUOTA, ago=60), event("create Pod", ago=30, reason="SuccessfulCreate")], []),
        ([event("create Pod a-0", reason="SuccessfulCreate")], []),
    ],
)
def test_what_is_over_or_passes_is_no_trouble(events: list[Object], pods: list[Object]) -> None:
    assert refusal("llm", events, pods, NOW) is None


@pytest.mark.parametrize(
    ("events", "pods"),
    [
        ([event(LEAD + QUOTA, ago=1000)], [made(ago=1000)]),
        ([event("create Pod", ago=9, reason="SuccessfulCreate"), event(LEAD + QUOTA, ago=9)], []),
        ([event(LEAD + "old news", ago=90), event(LEAD + QUOTA, ago=10)], [made(ago=50)]),
    ],
)
def test_what_came_last_counts(events: list[Object], pods: list[Object]) -> None:
    found = refusal("llm", events, pods, NOW)
    assert found is not None
    assert QUOTA in found.message


@pytest.mark.parametrize(
    ("status", "calm", "refused", "told"),
    [
        ("False", 3, 5, False),
        ("False", 5, 5, False),
        ("False", 5, 3, True),
        ("False", 100, 500, True),
        ("True", 3, 5, True),
        # the clock was set back since
        ("False", -3600, 5, True),
    ],
)
def test_what_was_refused_before_the_spec_was_mended_is_told_no_more(
    status: str, calm: float, refused: float, told: bool
) -> None:
    moment = rfc3339(NOW - timedelta(seconds=calm))
    conditions = [{"type": "Stalled", "status": status, "lastTransitionTime": moment}]
    events = [event(LEAD + QUOTA, ago=refused)]
    assert bool(refusal("llm", events, [], NOW, mended(conditions, NOW))) is told


@pytest.mark.parametrize(
    ("there", "pods", "count"),
    [
        (None, 0, 0),
        (workload(2), 1, 1),
        (workload(2), 2, 0),
        (workload(2), 3, 0),
        (workload(0), 0, 0),
        (workload(2, observed=0), 0, 0),
        (workload(None, desiredNumberScheduled=3), 1, 2),
        (workload(None), 0, 0),
    ],
)
def test_how_many_pods_are_missing(there: Object | None, pods: int, count: int) -> None:
    assert missing(there, [pod(f"a-{number}") for number in range(pods)]) == count


def ready(status: str, since: datetime) -> list[Object]:
    return [{"type": "Ready", "status": status, "lastTransitionTime": rfc3339(since)}]


@pytest.mark.parametrize(
    ("conditions", "seconds"),
    [
        ([], 3),
        (ready("True", NOW - timedelta(hours=1)), 3),
        (ready("False", NOW - timedelta(seconds=1)), 3),
        (ready("False", NOW - timedelta(seconds=20)), 20),
        (ready("False", NOW - timedelta(hours=1)), 60),
    ],
)
def test_looks_grow_rarer(conditions: list[Object], seconds: float) -> None:
    assert look_again(conditions, NOW) == seconds


def test_a_workload_without_its_pods_stalls_until_they_come() -> None:
    node = resource("OllamaNode", "a", {"replicas": 2})
    url = "http://10.0.0.1:11434"
    lacking = Observed(
        workload(2), (made(60),), {"gpu-a": machine("gpu-a")}, {url: probe()},
        events=(event(LEAD + QUOTA),),
    )  # fmt: skip
    plan = plan_ollamanode(node, lacking, NOW)
    by_type = {one["type"]: one for one in plan.status["conditions"]}
    assert (by_type["Stalled"]["status"], by_type["Stalled"]["reason"]) == ("True", "QuotaExceeded")
    assert [note.reason for note in plan.notes] == ["QuotaExceeded"]
    assert plan.requeue_after == 3

    whole = Observed(
        workload(2, updatedReplicas=2),
        (made(60), pod("a-1")),
        {"gpu-a": {**machine("gpu-a"), "status": {"allocatable": {"nvidia.com/gpu": "2"}}}},
        {url: probe()},
    )
    good = plan_ollamanode({**node, "status": plan.status}, whole, NOW)
    assert [note.reason for note in good.notes] == ["Ready"]
    assert good.requeue_after is None
