"""Tasks out of ModelDistributions, and ModelDistributions out of wishes."""

from typing import Any, get_args

import pytest

from ollama_fleet.api.taskstatus import TaskState
from ollama_fleet.console.agents import Server, servers_of
from ollama_fleet.console.progress import lines
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.tasks import (
    STATUSES,
    asks_the_same,
    distribution,
    given_up,
    has_failed,
    ids_of,
    model_name,
    promised,
    tasks_of,
    wire,
)

MODEL = "llama3.2:1b"


def told(state: str, **more: Any) -> Any:
    made = distribution(MODEL, "llm", ["a-0"])
    made["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    (identity,) = ids_of(made, ["a-0"])
    task = {"id": identity, "server": "a-0", "model": MODEL, "state": state, **more}
    made["status"] = {"observedGeneration": 1, "tasks": [task]}
    return made


def servers(*names: str) -> list[Server]:
    told = [{"name": name, "state": "Ready"} for name in names]
    meta = {"name": "a", "namespace": "llm"}
    return servers_of({"metadata": meta, "spec": {"replicas": 2}, "status": {"servers": told}})


@pytest.mark.parametrize("state", get_args(TaskState))
def test_every_state_has_a_status(state: str) -> None:
    (task,) = tasks_of(told(state, message="why", progress=0.45))
    sent = wire(task)
    assert sent["status"] == STATUSES[state]
    assert ("error" in sent) == (sent["status"] == "failed")
    assert sent["progress"] == (1.0 if state == "Installed" else 0.45)
    assert sent["created_at"] == sent["updated_at"] == "2026-01-01T00:00:00Z"


def test_a_task_is_there_before_anybody_has_looked() -> None:
    made = told("Waiting")
    del made["status"]
    assert tasks_of(made) == []
    (task,) = promised(made, servers("a-0", "a-1"))
    assert [task.id] == ids_of(made, ["a-0"])
    assert (task.agent_id, task.status) == ("llm.a-0", "pending")
    assert promised(told("Pulling"), servers("a-0")) == []


@pytest.mark.parametrize(("installed", "status"), [(1, "pending"), (2, "completed")])
def test_tasks_that_a_status_leaves_out_are_not_lost(installed: int, status: str) -> None:
    made = told("Installed")
    del made["spec"]["target"]
    made["status"] |= {"tasksOmitted": 1, "summary": {"desired": 2, "installed": installed}}
    (task,) = promised(made, servers("a-0", "a-1"))
    assert (task.agent_id, task.status) == ("llm.a-1", status)


@pytest.mark.parametrize(
    ("text", "name"),
    [("llama3.2", "llama3.2:latest"), ("hf.co/a/b:Q4", "hf.co/a/b:Q4"), (MODEL, MODEL)],
)
def test_model_names(text: str, name: str) -> None:
    assert model_name(text) == name


@pytest.mark.parametrize("text", ["", "Invalid@Model#Name", "a b", "x:cloud", "gpt-oss:20b-cloud"])
def test_what_is_no_model(text: str) -> None:
    with pytest.raises(Refusal) as refusal:
        model_name(text)
    assert refusal.value.status == 400


def test_the_same_wish_is_the_same_object() -> None:
    one = distribution(MODEL, "llm", ["b", "a", "a"])
    assert one == distribution(MODEL, "llm", ["a", "b"])
    names = {
        distribution(model, "llm", wanted)["metadata"]["name"]
        for model in (MODEL, "llama3.2:3b")
        for wanted in (None, ["a"], ["b"], ["a", "b"])
    }
    assert len(names) == 8
    assert "target" not in distribution(MODEL, "llm", None)["spec"]
    for model in ("_", "x" * 80 + ":" + "y" * 80, "-.-".replace("-", "_")):
        name = distribution(model, "llm", None)["metadata"]["name"]
        assert name[0].isalnum()
        assert len(name) <= 52


def test_what_was_given_up_is_tried_again_and_nothing_else() -> None:
    for state in get_args(TaskState):
        made = told(state)
        (identity,) = ids_of(made, ["a-0"])
        assert has_failed(made, [identity]) == (state in ("Failed", "Misfit"))
        assert not has_failed(made, ["another"])
    changed = told("Failed")
    assert asks_the_same(distribution(MODEL, "llm", ["a-0"]), changed)
    changed["spec"]["models"][0]["preload"] = True
    assert not asks_the_same(distribution(MODEL, "llm", ["a-0"]), changed)


@pytest.mark.parametrize(
    ("state", "more", "sentence"),
    [
        ("Installed", {}, "is completed: only one that was given up"),
        ("Waiting", {}, "is pending"),
        ("Pulling", {}, "is downloading"),
        ("Misfit", {"message": "too small."}, "once its cause is mended: too small"),
        ("Failed", {"reason": "NotInstalled", "message": "Never."}, "by itself once"),
        ("Failed", {"reason": "ModelNotFound"}, None),
        ("Failed", {"reason": "PullFailed", "attempts": 3}, None),
    ],
)
def test_only_what_was_given_up_begins_anew(
    state: str, more: dict[str, Any], sentence: str | None
) -> None:
    made = told(state, **more)
    (task,) = tasks_of(made)
    if sentence is None:
        given_up(made, task)
        return
    with pytest.raises(Refusal, match=sentence) as refusal:
        given_up(made, task)
    assert refusal.value.status == 409


@pytest.mark.parametrize(
    ("before", "after", "begins"),
    [
        (None, "Waiting", []),
        ("Waiting", "Pulling", ["pull started"]),
        ("Pulling", "Verifying", []),
        ("Verifying", "Installed", ["pull completed", "task completed"]),
        ("Pulling", "Failed", ["failed to send pull to agent llm.a-0"]),
        ("Pulling", "Paused", []),
    ],
)
def test_what_the_log_tells(before: str | None, after: str, begins: list[str]) -> None:
    was = tasks_of(told(before))[0] if before else None
    (now,) = tasks_of(told(after, message="why"))
    assert [line.partition(":")[0] for line in lines(was, now)] == begins
