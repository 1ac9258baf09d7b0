"""Which model a server gets, by what each needs."""

from dataclasses import replace
from typing import Any

import pytest

from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.plan.architecture import Architecture
from ollama_fleet.plan.choice import Choice, choices
from ollama_fleet.plan.disk import Store
from ollama_fleet.plan.distribution import plan_distribution
from ollama_fleet.plan.memory import Memory
from ollama_fleet.plan.servers import Installed, Probe, Server
from ollama_fleet.plan.sizing import Load, Shape, Weights
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
    assert task["message"].startswith("begins; needs ")
    assert task["message"].endswith(f"has {gib}.0 GiB (context 8192 × 1, f16)")


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
        "needs 3.5 GiB, has 24.0 GiB (context 8192 × 1, f16); listed, fallback of later, "
        "installed, and kept while the registry cannot be asked"
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
    [("Skip", BIG, "Misfit"), ("Fallback", MIDDLE, "Pulling"), ("PullAnyway", BIG, "Pulling")],
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


def shaped(name: str, shape: Shape | None, memory: int = 24, size: int = 9, **more: Any) -> Server:
    """A server that has a model which was described so; None: nobody was asked yet."""
    there = Probe(installed={name: Installed(DIGEST, size * GIB)}, last_seen=NOW)
    shapes = {} if shape is None else {DIGEST: shape}
    return server(memory=memory, probe=there, shapes=shapes, **more)


@pytest.mark.parametrize(
    ("model", "shape", "told"),
    [
        # the registry cannot be asked: nothing is said before the server describes what it has
        ("later", None, "listed"),
        ("later", Shape(LLAMA), "needs 11.5 GiB, has 24.0 GiB (context 8192 × 1, f16); listed"),
        ("later", Shape(), "needs about 11.8 GiB, has 24.0 GiB (estimated from its size alone); "),
        # it has no such model
        ("gone", None, "listed"),
        ("gone", Shape(LLAMA), "needs 11.5 GiB, has 24.0 GiB (context 8192 × 1, f16); listed"),
        # it has one whose header cannot be read
        ("odd", None, "needs about 11.8 GiB, has 24.0 GiB (estimated from its size alone); listed"),
        ("odd", Shape(LLAMA), "needs 11.5 GiB, has 24.0 GiB (context 8192 × 1, f16); listed"),
        ("odd", Shape(), "needs about 11.8 GiB, has 24.0 GiB (estimated from its size alone); "),
        # it says all there is to say
        ("middle", None, "needs 11.5 GiB, has 24.0 GiB (context 8192 × 1, f16); listed"),
    ],
)
def test_what_the_registry_does_not_say_the_server_does(
    model: str, shape: Shape | None, told: str
) -> None:
    made = plan({"models": [{"name": model}]}, shaped(f"{model}:latest", shape))
    task = only_task(made)
    assert task["state"] == "Installed"
    assert str(task.get("message", "listed")).startswith(told)


def test_what_was_described_first_is_believed() -> None:
    small = replace(LLAMA, row=0)
    there = shaped(MIDDLE, Shape(small))
    message = only_task(plan({"models": [{"name": "middle"}]}, there))["message"]
    assert message.startswith("needs 10.5 GiB")
    # also of a model that another server has, if the registry gives the same
    absent = server("b-0", shapes=there.shapes)
    made = plan({"models": [{"name": "odd"}]}, there, absent)
    messages = [task["message"] for task in made.plan.status["tasks"]]
    assert [message.count("needs 10.5 GiB") for message in messages] == [1, 1]
    # and of none but that
    other = {OTHER: Shape(small)}
    message = only_task(plan({"models": [{"name": "odd"}]}, server(shapes=other)))["message"]
    assert message.startswith("begins; needs about")


@pytest.mark.parametrize("model", ["gone", "later"])
def test_a_model_that_only_its_server_knows_is_kept_before_its_fallbacks(model: str) -> None:
    spec = {"models": [{"name": model, "fallbacks": ["small"]}]}
    for shape in (None, Shape(), Shape(LLAMA)):
        assert names(spec, shaped(f"{model}:latest", shape)) == [model]
    assert names(spec, shaped(f"{model}:latest", Shape(LLAMA), memory=10)) == ["small"]
    best = {"bestFit": {"candidates": [model, "small"]}}
    assert names(best, shaped(f"{model}:latest", Shape(LLAMA))) == [model]


def on_disk(free: int, *installed: str, memory: int = 80) -> Server:
    has = {f"{name}:latest": Installed(OTHER, GIB) for name in installed}
    store = Store(100 * GIB, "volume v", "Grow v", {"x": (100 - free) * GIB})
    return server(memory=memory, store=store, probe=Probe(installed=has, last_seen=NOW))


LAID_OUT = {
    name: replace(one, blobs={f"of {name}": one.size or 0}) for name, one in REGISTRY.items()
}


@pytest.mark.parametrize(
    ("there", "model", "told"),
    [
        (on_disk(40), "big", "listed"),
        (on_disk(39), "middle", "which needs 40.0 GiB of disk, where 39.0 GiB are free"),
        (on_disk(8), "small", "which needs 40.0 GiB of disk, where 8.0 GiB are free"),
        # what it says is what keeps the model itself away
        (on_disk(8, memory=24), "small", "which needs 42.5 GiB"),
        (on_disk(40, memory=24), "middle", "which needs 42.5 GiB"),
        # nothing finds room: the model itself is told
        (on_disk(0), "big", "listed"),
        # what is there takes no more
        (on_disk(0, "middle"), "middle", "which needs 40.0 GiB of disk, where 0 MiB are free"),
        (on_disk(0, "big"), "big", "listed"),
        (replace(on_disk(8), store=Store()), "big", "listed"),
    ],
)
def test_a_fallback_must_find_room_on_the_disk(there: Server, model: str, told: str) -> None:
    (choice,) = choices(ModelDistributionSpec.model_validate(LISTED), there, LAID_OUT)
    assert choice.model.name == model
    assert choice.why.endswith(told)


@pytest.mark.parametrize(
    ("there", "model", "why"),
    [
        (on_disk(40), "big", "the first of 3 that fits"),
        (
            on_disk(39),
            "middle",
            "the first of 3 that fits, instead of big, which needs 40.0 GiB of disk, where 39.0 "
            "GiB are free",
        ),
        # the memory keeps big away, and the disk what comes next
        (
            on_disk(8, memory=24),
            "small",
            "the first of 3 that fits, instead of middle, which needs 9.0 GiB of disk, where 8.0 "
            "GiB are free",
        ),
        (on_disk(0), "small", "none of 3 fits, and it needs least"),
        (
            on_disk(0, "middle"),
            "middle",
            "the first of 3 that fits, instead of big, which needs "
            "40.0 GiB of disk, where 0 MiB are free",
        ),
        (replace(on_disk(8), store=Store()), "big", "the first of 3 that fits"),
    ],
)
def test_the_best_must_find_room_on_the_disk(there: Server, model: str, why: str) -> None:
    (choice,) = choices(ModelDistributionSpec.model_validate(BEST), there, LAID_OUT)
    assert (choice.model.name, choice.why) == (model, f"bestFit: {why}")


def test_a_best_without_room_says_so() -> None:
    wanted = resource("ModelDistribution", "md", BEST)
    seen = Seen(registry=LAID_OUT, running={}, failures={})
    task = only_task(plan_distribution(wanted, [on_disk(0)], True, seen, NOW))
    assert (task["model"], task["state"], task["reason"]) == (SMALL, "Misfit", "NotEnoughDisk")


def test_a_fallback_for_want_of_disk_is_pulled_and_says_why() -> None:
    wanted = resource("ModelDistribution", "md", LISTED)
    seen = Seen(registry=LAID_OUT, running={}, failures={})
    made = plan_distribution(wanted, [on_disk(10)], True, seen, NOW)
    assert [order.model for order in made.start] == [MIDDLE]
    (begun,) = (one for one in made.plan.notes if one.reason == "PullStarted")
    because = "which needs 40.0 GiB of disk, where 10.0 GiB are free"
    assert begun.message == f"pulling {MIDDLE} to a-0 (listed, fallback of big, {because})"
    # while it arrives, it is not put out by its own bytes
    running = {task_id("llm", "md", "a-0", MIDDLE): Running("Pulling", 5, 10)}
    arriving = {"a-0": LAID_OUT[MIDDLE].blobs}
    seen = replace(seen, running=running, arriving=arriving)
    assert plan_distribution(wanted, [on_disk(10)], True, seen, NOW).keep == set(running)


@pytest.mark.parametrize("on_misfit", ["Skip", "PullAnyway"])
def test_without_fallbacks_a_model_waits_for_room(on_misfit: str) -> None:
    wanted = resource("ModelDistribution", "md", {**LISTED, "sizing": {"onMisfit": on_misfit}})
    seen = Seen(registry=LAID_OUT, running={}, failures={})
    task = only_task(plan_distribution(wanted, [on_disk(10)], True, seen, NOW))
    assert (task["model"], task["state"], task["reason"]) == (BIG, "Misfit", "NotEnoughDisk")


def test_one_model_wanted_twice_is_one_task() -> None:
    spec = {"models": [{"name": "small"}], "bestFit": {"candidates": ["small:latest"]}}
    assert names(spec, server()) == ["small"]


def test_suspended_and_dry_plans_tell_the_verdict_too() -> None:
    listed = {"models": [{"name": "small"}]}
    for more in ({"suspend": True}, {"dryRun": True}):
        assert only_task(plan({**listed, **more}, server()))["message"].startswith("needs 3.5 GiB")
