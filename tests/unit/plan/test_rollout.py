"""Who is replaced next: never more at once than update.maxUnavailable leaves."""

from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.rollout import REVISION, current, replaced_next, revision, told, updated
from ollama_fleet.plan.serverpod import pod_template
from ollama_fleet.plan.servers import Server
from tests.unit.plan.objects import DIGEST, Object, pod, probe, server


def workload(revision: str = "new", seen: bool = True) -> Object:
    template = {"metadata": {"annotations": {REVISION: revision}}}
    return {
        "metadata": {"generation": 2},
        "spec": {"template": template},
        "status": {"observedGeneration": 2 if seen else 1},
    }


def of(name: str, revision: str = "old", **changes: Any) -> Server:
    """A server that is up, with its pod of that revision."""
    its = pod(name, ready=changes.pop("ready", True))
    its["metadata"]["annotations"] = {REVISION: revision}
    if changes.pop("ending", False):
        its["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        changes["state"] = "Draining"
    return server(name, pod=its, **changes)


def spec(**fields: Any) -> OllamaNodeSpec:
    return OllamaNodeSpec.model_validate({"replicas": 3, **fields})


OLD = [of("a-0"), of("a-1"), of("a-2")]


@pytest.mark.parametrize(
    ("servers", "most", "goes"),
    [
        (OLD, 1, ["a-2"]),
        (OLD, 2, ["a-2", "a-1"]),
        (OLD, "50%", ["a-2"]),
        (OLD, "100%", ["a-2", "a-1", "a-0"]),
        ([of("a-9"), of("a-10"), of("a-2")], 1, ["a-10"]),
        # nothing is of an old template
        ([of("a-0", "new"), of("a-1", "new"), of("a-2", "new")], 3, []),
        # one is away already: on its way out, missing, not ready, offline, or not yet as it was
        ([*OLD[:2], of("a-2", ending=True)], 1, []),
        (OLD[:2], 1, []),
        ([*OLD[:2], of("a-2", "new", ready=False, state="Starting")], 1, []),
        ([*OLD[:2], of("a-2", "new", state="Offline")], 1, []),
        ([*OLD[:2], of("a-2", "new", restoring=("m:latest",))], 1, []),
        ([*OLD[:2], of("a-2", "new", restoring=("m:latest",))], 2, ["a-1"]),
        # back with its models: the next goes
        ([*OLD[:2], of("a-2", "new")], 1, ["a-1"]),
        # an unfit one serves what it has, so it counts and takes its turn
        ([*OLD[:2], of("a-2", state="Unfit")], 1, ["a-2"]),
        ([*OLD[:2], of("a-2", "new", state="Unfit")], 1, ["a-1"]),
        # who serves nobody goes whatever the others do
        ([*OLD[:2], of("a-2", ready=False, state="Offline")], 1, ["a-2"]),
        ([OLD[0], of("a-1", ready=False), of("a-2", ready=False)], 1, ["a-1", "a-2"]),
        ([*OLD[:2], of("a-2", restoring=("m:latest",))], 1, ["a-2"]),
        # a machine that is cordoned takes no new pod; its server counts as away
        ([*OLD[:2], of("a-2", state="Draining", note="machine x is cordoned")], 1, []),
        ([*OLD[:2], of("a-2", state="Draining", note="machine x is cordoned")], 2, ["a-1"]),
        # all are cordoned by spec.cordoned: they go one by one as ever
        ([of(f"a-{number}", state="Draining") for number in range(3)], 1, ["a-2"]),
    ],
)
def test_who_goes_next(servers: list[Server], most: int | str, goes: list[str]) -> None:
    found = replaced_next(spec(update={"maxUnavailable": most}), workload(), servers, 3)
    assert [one["metadata"]["name"] for one in found] == goes


def test_nobody_goes_before_the_controller_would_make_new_pods() -> None:
    assert replaced_next(spec(), workload(seen=False), OLD, 3) == ()
    assert replaced_next(spec(), None, OLD, 3) == ()


def test_what_is_updated_and_what_an_update_waits_for() -> None:
    servers = [of("a-0"), of("a-1", "new"), of("a-2", "new", ending=True)]
    assert updated(spec(), workload(), servers) == 1
    assert current(servers[1].pod or {}, workload())
    assert told(servers) == "a-2 finishes its requests"
    there = probe(m__latest=DIGEST)
    back = of("a-1", restoring=("m:latest",))
    assert told([back]) == "a-1 waits for m:latest again"
    assert told([replace(back, probe=there)]) == "a-1 loads m:latest again"
    assert told([of("a-1", ready=False)]) == "a-1 is not back yet"


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"image": {"tag": "0.36.0"}}, False),
        ({"server": {"contextLength": 4096}}, False),
        ({"gpu": {"memory": "24Gi"}}, False),
        ({"template": {"annotations": {"a": "b"}}}, False),
        # how it ends is no reason to end it
        ({"update": {"drainTimeout": "1h", "maxUnavailable": 2}}, True),
        ({"replicas": 5, "weight": 1, "cordoned": True}, True),
    ],
)
def test_what_servers_are_replaced_for(change: Object, same: bool) -> None:
    before = revision(pod_template(spec(), {}))
    assert (revision(pod_template(spec(**change), {})) == before) is same
