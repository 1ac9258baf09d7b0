"""Which model a server gets, by what each needs."""

from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.plan.architecture import Architecture
from ollama_fleet.plan.choice import Choice, choices
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.sizing import Load, Weights
from ollama_fleet.plan.tasks import RegistryFact, Running, Seen, task_id
from tests.unit.plan.objects import DIGEST, GIB, NOW, OTHER, Object, probe, resource, server

LLAMA = Architecture("llama", 32 * 8 * 256, 0, 0, 32, 4096, 128256, 131072)


def fact(gib: float, architecture: Architecture | None = LLAMA) -> RegistryFact:
    size = round(gib * GIB)
    return RegistryFact(DIGEST, size, weights=Weights(size), architecture=architecture)


BIG, MIDDLE, SMALL = "big:latest", "middle:latest", "small:latest"
REGISTRY = {
    BIG: fact(40),
    MIDDLE: fact(9),
    SMALL: fact(1),
    "odd:latest": fact(9, None),
    "gone:latest": RegistryFact(missing=True),
    "later:latest": RegistryFact(error="no route"),
}
BEST = {"bestFit": {"candidates": ["big", "middle", "small"]}}
LISTED = {"models": [{"name": "big", "fallbacks": ["middle", "small"]}]}


def chosen(spec: Object, on: Server, **registry: RegistryFact) -> list[Choice]:
    return choices(ModelDistributionSpec.model_validate(spec), on, {**REGISTRY, **registry})


def names(spec: Object, on: Server) -> list[str]:
    return [choice.model.name for choice in chosen(spec, on)]


def plan(spec: Object, *servers: Server, **running: Running) -> Any:
    wanted = resource("ModelDistribution", "md", spec)
    seen = Seen(registry=REGISTRY, running=running, failures={})
    return plan_distribution(wanted, servers, True, seen, NOW)


def only_task(made: Any) -> dict[str, Any]:
    (task,) = made.plan.status["tasks"]
    return dict(task)


def ready(made: Any) -> tuple[str, str, str]:
    (one,) = (one for one in made.plan.status["conditions"] if one["type"] == "Ready")
    return one["status"], one["reason"], one["message"]


@pytest.mark.parametrize(
    ("gib", "model"), [(80, "big"), (24, "middle"), (12, "middle"), (6, "small"), (4, "small")]
)
def test_best_fit_is_the_first_candidate_that_fits(gib: int, model: str) -> None:
    made = plan(BEST, server(memory=gib))
    assert [order.model for order in made.start] == [f"{model}:latest"]
    task = only_task(made)
    assert task["message"].startswith("needs ")
    assert f"has {gib}.0 GiB (context 8192 × 1, f16); " in task["message"]


def test_the_most_wanted_comes_first_even_where_a_later_one_is_larger() -> None:
    spec = {"bestFit": {"candidates": ["small", "big"]}}
    assert names(spec, server(memory=80)) == ["small"]


def test_a_candidate_that_is_missing_is_passed_over() -> None:
    spec = {"bestFit": {"candidates": ["gone", "small"]}}
    assert names(spec, server()) == ["small"]
    made = plan({"bestFit": {"candidates": ["gone"]}}, server())
    assert ready(made)[1] == "ModelNotFound"


def test_where_no_candidate_fits_the_one_that_needs_least_is_told() -> None:
    made = plan({"bestFit": {"candidates": ["big", "small", "middle"]}}, server(memory=2))
    task = only_task(made)
    assert (task["model"], task["state"], task["reason"]) == (SMALL, "Misfit", "DoesNotFit")
    assert task["message"].startswith(
        "needs 3.5 GiB, has 2.0 GiB (context 8192 × 1, f16); "
        "bestFit: none of 3 fits, and it needs least. Lower sizing.contextLength"
    )
    assert made.start == ()


def test_while_the_registry_is_silent_nothing_less_is_chosen() -> None:
    spec = {"bestFit": {"candidates": ["later", "small"]}}
    made = plan(spec, server())
    assert only_task(made)["state"] == "Waiting"
    assert ready(made)[1] == "RegistryUnreachable"
    # what an earlier choice installed stays the choice
    kept = plan(spec, server(probe=probe(small__latest=DIGEST)))
    assert only_task(kept)["model"] == SMALL
    assert only_task(kept)["state"] == "Installed"


def test_while_the_registry_is_silent_a_fallback_that_is_there_stays() -> None:
    spec = {"models": [{"name": "later", "fallbacks": ["small"]}]}
    assert names(spec, server()) == ["later"]
    made = plan(spec, server(probe=probe(small__latest=DIGEST)))
    assert only_task(made)["state"] == "Installed"
    assert only_task(made)["message"] == (
        "listed, fallback of later, installed, and kept while the registry cannot be asked"
    )
    both = probe(small__latest=DIGEST, later__latest=DIGEST)
    assert names(spec, server(probe=both)) == ["later"]


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        ("Ready", "MemoryUnknown", "its memory is unknown: no label. No candidate can be chosen."),
        ("Starting", "Progressing", "0 of 1 installed, 0 pulling, 1 waiting"),
    ],
)
def test_without_memory_there_is_no_best_fit_yet(state: str, reason: str, told: str) -> None:
    silent = replace(server(state=state), memory=Memory(None, "unknown: no label"))
    made = plan(BEST, silent)
    assert only_task(made)["state"] == "Waiting"
    assert made.start == ()
    assert ready(made)[1] == reason
    assert told in ready(made)[2]


def test_a_listed_model_is_pulled_where_nobody_says_the_memory() -> None:
    made = plan({"models": [{"name": "big"}]}, server(memory=None))
    assert [order.model for order in made.start] == [BIG]
    assert "what the server has is unknown" in only_task(made)["message"]


def test_a_model_too_large_is_a_misfit_in_so_many_words() -> None:
    made = plan({"models": [{"name": "big"}]}, server())
    task = only_task(made)
    assert (task["state"], task["reason"]) == ("Misfit", "DoesNotFit")
    words = "needs 42.5 GiB, has 24.0 GiB (context 8192 × 1, f16); listed. Lower"
    assert task["message"].startswith(words)
    assert ready(made)[:2] == ("False", "DoesNotFit")
    assert ready(made)[2].startswith(f"big:latest on a-0: {words}")
    assert made.plan.status["summary"]["misfit"] == 1


@pytest.mark.parametrize(("gib", "model"), [(80, "big"), (24, "middle"), (6, "small"), (2, "big")])
def test_the_first_fallback_that_fits_is_taken(gib: int, model: str) -> None:
    assert names(LISTED, server(memory=gib)) == [model]


def test_a_fallback_says_what_it_is_taken_for() -> None:
    note = "listed, fallback of big, which needs 42.5 GiB"
    (begun,) = (one for one in plan(LISTED, server()).plan.notes if one.reason == "PullStarted")
    assert begun.message == f"pulling {MIDDLE} to a-0 ({note})"
    done = only_task(plan(LISTED, server(probe=probe(middle__latest=DIGEST))))
    assert done["message"] == f"needs 11.5 GiB, has 24.0 GiB (context 8192 × 1, f16); {note}"


def test_a_fallback_must_be_there_as_well() -> None:
    spec = {"models": [{"name": "big", "fallbacks": ["gone", "small"]}]}
    assert names(spec, server()) == ["small"]


@pytest.mark.parametrize(
    ("on_misfit", "model", "state"),
    [("Skip", BIG, "Misfit"), ("Fallback", MIDDLE, "Waiting"), ("PullAnyway", BIG, "Waiting")],
)
def test_what_becomes_of_a_misfit_is_the_users_choice(
    on_misfit: str, model: str, state: str
) -> None:
    made = plan({**LISTED, "sizing": {"onMisfit": on_misfit}}, server())
    task = only_task(made)
    assert (task["model"], task["state"]) == (model, state)
    assert [order.model for order in made.start] == ([] if state == "Misfit" else [model])
    assert "needs " in task["message"]


def test_a_model_of_a_tier_must_fit_too() -> None:
    spec = {"tiers": [{"minMemory": "16G", "models": [{"name": "big"}]}]}
    assert only_task(plan(spec, server()))["state"] == "Misfit"


def test_what_is_installed_stays_and_is_told() -> None:
    made = plan({"models": [{"name": "big"}]}, server(probe=probe(big__latest=OTHER)))
    task = only_task(made)
    assert (task["state"], task["reason"]) == ("Installed", "DoesNotFit")
    assert task["message"] == (
        "needs 42.5 GiB, has 24.0 GiB (context 8192 × 1, f16); it stays installed, and runs in "
        "part on the CPU, if at all"
    )
    assert ready(made)[0] == "True"


def test_a_pull_of_what_no_longer_fits_is_stopped() -> None:
    spec = {"models": [{"name": "middle"}]}
    task = task_id("llm", "md", "a-0", MIDDLE)
    running = {task: Running("Pulling", 5, 10)}
    assert plan(spec, server(memory=12), **running).keep == {task}
    assert "; needs 11.5 GiB" in only_task(plan(spec, server(memory=12), **running))["message"]
    assert plan(spec, server(memory=8), **running).keep == frozenset()


@pytest.mark.parametrize(
    ("load", "sizing", "model"),
    [
        (Load(), {}, "middle"),
        (Load(context=32768), {}, "small"),
        (Load(context=32768, cache_type="q4_0"), {}, "middle"),
        (Load(parallel=4), {}, "small"),
        (Load(parallel=4), {"parallel": 1}, "middle"),
        (Load(), {"contextLength": 32768}, "small"),
        (Load(), {"headroom": "3Gi"}, "small"),
    ],
)
def test_the_choice_follows_the_servers_settings_and_the_sizing(
    load: Load, sizing: Object, model: str
) -> None:
    assert names({**BEST, "sizing": sizing}, server(memory=12, load=load)) == [model]


def test_a_model_of_unknown_shape_is_judged_by_its_size() -> None:
    made = plan({"models": [{"name": "odd"}]}, server(memory=12))
    assert (
        "needs about 11.8 GiB, has 12.0 GiB (estimated from its size alone)"
        in (only_task(made)["message"])
    )


def test_one_model_wanted_twice_is_one_task() -> None:
    spec = {"models": [{"name": "small"}], "bestFit": {"candidates": ["small:latest"]}}
    assert names(spec, server()) == ["small"]


def test_suspended_and_dry_plans_tell_the_verdict_too() -> None:
    listed = {"models": [{"name": "small"}]}
    for more in ({"suspend": True}, {"dryRun": True}):
        assert only_task(plan({**listed, **more}, server()))["message"].startswith("needs 3.5 GiB")
