"""Plans carried out again and again, with pulls that end well or badly by chance."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import Window
from ollama_fleet.plan.distribution import PullOrder, plan_distribution
from ollama_fleet.plan.servers import Installed
from ollama_fleet.plan.tasks import Failure, RegistryFact, Running, Seen
from ollama_fleet.plan.windows import hours
from tests.unit.plan.objects import GIB, NOW, Object, resource, server

MODELS = ("llama3.1:8b", "qwen3:4b", "llama3.2:1b")
LIMIT = 3
LONGEST = 2000


@dataclass
class World:
    """Servers, a registry, and an operator that does what is planned."""

    spec: Object
    chance: Random
    failing: float
    installed: dict[tuple[str, str], str] = field(default_factory=dict)
    running: dict[str, PullOrder] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    version: int = 0
    now: datetime = NOW
    status: Object = field(default_factory=dict)

    def digest(self, model: str) -> str:
        return f"sha256:{MODELS.index(model):032x}{self.version:032x}"

    def step(self, names: list[str], compare: bool) -> Any:
        """Plan once, and carry it out."""
        servers = []
        for name in names:
            there = server(name)
            have = {m: Installed(d, GIB) for (s, m), d in self.installed.items() if s == name}
            servers.append(replace(there, probe=replace(there.probe, installed=have)))
        seen = Seen(
            registry={model: RegistryFact(self.digest(model), GIB) for model in MODELS},
            running={task: Running() for task in self.running},
            failures=dict(self.failures),
            compare=compare,
        )
        wanted = resource("ModelDistribution", "md", self.spec, status=self.status)
        free = max(0, LIMIT - len(self.running))
        made = plan_distribution(
            wanted, servers, True, seen, self.now, places=lambda more: min(more, free)
        )
        self.running = {task: one for task, one in self.running.items() if task in made.keep}
        for order in made.start:
            self.running[order.task] = order
        self.status = dict(made.plan.status)
        return made

    def pass_on(self, made: Any) -> None:
        """Time goes by: a pull ends, or else the next moment planned comes."""
        wait = made.plan.requeue_after
        if self.running and self.chance.random() < 0.8:
            self.now += timedelta(seconds=self.chance.uniform(1, 600))
            order = self.running.pop(self.chance.choice(sorted(self.running)))
            before = self.failures.pop(order.task, None)
            if self.chance.random() < self.failing:
                count = before.attempts if before else 0
                self.failures[order.task] = Failure(
                    self.now, count + 1, Reason.PULL_FAILED, "reset."
                )
            else:
                self.installed[order.server, order.model] = self.digest(order.model)
        elif wait is not None:
            self.now += timedelta(seconds=wait)
        else:
            self.now += timedelta(seconds=1)


@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.sampled_from([1, 2, "50%", 10]),
    st.sampled_from(
        [
            None,
            {"start": "22:00", "end": "06:00", "timeZone": "Europe/Berlin"},
            {"start": "12:30", "end": "13:00", "days": ["Mon", "Thu"]},
        ]
    ),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["IfNotPresent", "Always"]),
)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_it_comes_to_rest_and_keeps_its_limits(
    seed: int, count: int, most: int | str, window: Object | None, failing: float, policy: str
) -> None:
    rollout: Object = {"maxParallel": most, "retry": {"attempts": 3, "backoff": "20s"}}
    if window:
        rollout["window"] = window
    spec = {"models": [{"name": m} for m in MODELS], "rollout": rollout, "pullPolicy": policy}
    world = World(spec, Random(seed), failing)
    allowed = min(LIMIT, -(-count * 50 // 100) if isinstance(most, str) else most)
    names = [f"a-{number}" for number in range(count)]
    comparison = 40 if policy == "Always" else None
    for step in range(LONGEST):
        if step == comparison:
            world.version += 1
        made = world.step(names, compare=step == comparison)
        assert len(world.running) <= max(1, allowed)
        if window and not hours(Window.model_validate(window), world.now).open:
            assert made.start == ()
            assert not world.running
        summary = made.plan.status["summary"]
        settled = summary.get("installed", 0) + summary.get("failed", 0) == summary["desired"]
        if settled and (comparison is None or step > comparison):
            break
        world.pass_on(made)
    else:
        raise AssertionError(f"no rest after {LONGEST} steps: {made.plan.status}")
    assert not world.running
    assert made.start == ()
    if failing == 0:
        assert summary["installed"] == summary["desired"] == count * len(MODELS)
        if policy == "Always":
            assert set(world.installed.values()) == {world.digest(m) for m in MODELS}
    assert all(failure.attempts <= 3 for failure in world.failures.values())
    # and stays there
    again = world.step(names, compare=False)
    assert again.start == ()
    assert again.plan.status == made.plan.status
