"""Servers are put together once, and again only where something about them is another."""

import random
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from ollama_fleet.controllers import servers as subject
from ollama_fleet.controllers.context import Context
from ollama_fleet.controllers.facts import RegistryFacts
from ollama_fleet.controllers.loop import Loop
from ollama_fleet.controllers.probes import Probes
from ollama_fleet.controllers.servers import Servers
from ollama_fleet.controllers.shapes import Shapes
from ollama_fleet.controllers.store import Store
from ollama_fleet.controllers.stores import Stores
from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.kinds import OLLAMA_NODE
from ollama_fleet.plan.servers import Probe, Server, servers_of
from tests.unit.controllers.conftest import FakeClock

NODES, EACH = 50, 20


class Telling:
    """Probes that say what a test says."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, Probe]] = {}

    def seen(self, group: str) -> dict[str, Probe]:
        return self.said.get(group, {})


class World:
    """A fleet of a thousand servers, and how often an OllamaNode's were put together."""

    def __init__(self, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.store = Store()
        self.probes = Telling()
        self.made: list[str] = []
        self._version = 0
        kube = cast(Kube, None)
        loop = cast(Loop, None)
        context = Context(kube, self.store, loop, clock, random.random, metrics=CollectorRegistry())
        facts = RegistryFacts(clock, 1.0)
        probes = cast(Probes, self.probes)
        self.stores = Stores(context, facts, cast(Shapes, type("None", (), {"known": {}})))
        self.servers = Servers(context, probes, self.stores)
        self._anew = partial(Servers, context, probes, self.stores)
        for number in range(NODES):
            self.put("OllamaNode", f"n{number}", spec={"replicas": EACH})
            for server in range(EACH):
                self.pod(number, server)

        def making(node: Object, *given: Any, **more: Any) -> list[Server]:
            self.made.append(node["metadata"]["name"])
            return servers_of(node, *given, **more)

        monkeypatch.setattr(subject, "servers_of", making)

    def put(
        self, kind: str, name: str, *, spec: Object, status: Object | None = None, **meta: Any
    ) -> None:
        self._version += 1
        group = "ollamafleet.dev/v1alpha1" if kind == "OllamaNode" else "v1"
        place = {} if kind == "Node" else {"namespace": "llm"}
        about = {"name": name, "uid": name, "resourceVersion": str(self._version), **place, **meta}
        made = {"apiVersion": group, "kind": kind, "metadata": about, "spec": spec}
        self.store.put(made | {"status": status or {}})

    def status(self, name: str, **server: object) -> None:
        node = self.store.get(OLLAMA_NODE, "llm", name)
        assert node is not None
        self._version += 1
        meta = {**node["metadata"], "resourceVersion": str(self._version)}
        self.store.put({**node, "metadata": meta, "status": {"servers": [{"name": "s", **server}]}})

    def pod(self, number: int, server: int, machine: str = "m") -> None:
        labels = {"ollamafleet.dev/ollamanode": f"n{number}"}
        spec = {"nodeName": machine, "containers": []}
        status = {"podIP": f"10.0.{number}.{server}"}
        self.put("Pod", f"n{number}-{server}", spec=spec, status=status, labels=labels)

    def all(self) -> list[Server]:
        return self.servers.of("llm", lambda name, labels: True)

    def of(self, nodes: Collection[str]) -> list[Server]:
        return self.servers.of("llm", lambda name, labels: name in nodes)

    def fresh(self, nodes: Collection[str]) -> list[Server]:
        """Put together by one who remembers nothing."""
        return self._anew().of("llm", lambda name, labels: name in nodes)

    def anew(self) -> list[str]:
        """Which OllamaNodes' were put together since the last time."""
        made, self.made[:] = list(self.made), []
        return made


def _is(wanted: str, name: str, labels: Mapping[str, str]) -> bool:
    return name == wanted


@pytest.fixture
def world(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(clock, monkeypatch)


def test_many_who_plan_with_the_same_servers_have_them_put_together_once(world: World) -> None:
    assert len(world.all()) == NODES * EACH
    assert len(world.anew()) == NODES
    for number in range(NODES):
        assert len(world.servers.of("llm", partial(_is, f"n{number}"))) == EACH
    assert len(world.all()) == NODES * EACH
    assert world.anew() == []


def test_who_means_one_ollamanode_has_no_other_put_together(world: World) -> None:
    world.servers.of("llm", partial(_is, "n7"))
    assert world.anew() == ["n7"]


def test_its_status_is_news_where_it_tells_what_they_do_not(world: World) -> None:
    world.all()
    world.anew()
    world.status("n2", state="Ready", installed=1)
    world.all()
    assert world.anew() == ["n2"]
    world.status("n2", state="Ready", installed=2)
    world.all()
    assert world.anew() == []
    world.status("n2", state="Offline", installed=2)
    world.all()
    assert world.anew() == ["n2"]


@pytest.mark.parametrize("meta", [{"generation": 2}, {"labels": {"tier": "gold"}}])
def test_what_it_is_concerns_all_its_servers(world: World, meta: dict[str, Any]) -> None:
    world.all()
    world.anew()
    world.put("OllamaNode", "n2", spec={"replicas": EACH}, **meta)
    world.all()
    assert world.anew() == ["n2"]


def test_a_change_of_one_pod_concerns_its_ollamanode_alone(world: World) -> None:
    world.all()
    world.anew()
    world.pod(3, 4, "another")
    assert {one.kubernetes_node for one in world.all() if one.name == "n3-4"} == {"another"}
    assert world.anew() == ["n3"]


def test_what_one_server_says_concerns_it_alone(world: World) -> None:
    before = {one.name: one for one in world.all()}
    world.anew()
    for word in ("1", "2"):
        world.probes.said["llm/n9"] = {"http://10.0.9.4:11434": Probe(version=word)}
        after = {one.name: one for one in world.all()}
        assert world.anew() == ["n9"]
        assert [name for name, one in after.items() if one is not before[name]] == ["n9-4"]
        assert after["n9-4"].probe.version == word
        before = after
    assert world.all()
    assert world.anew() == []
    world.probes.said["llm/n9"] = {}
    assert {one.probe.version for one in world.all()} == {None}


async def test_by_chance_they_are_as_if_all_were_put_together_anew(
    world: World, clock: FakeClock
) -> None:
    chance, few = random.Random(3), {"n0", "n1", "n2"}
    asked = Probe(version="1", last_seen=clock.now())
    words = (Probe(), asked, replace(asked, error="gone"), replace(asked, resident={"m": 1}))
    for _ in range(200):
        node, server = chance.randrange(3), chance.randrange(3)
        match chance.randrange(5):
            case 0:
                world.pod(node, server, chance.choice(("m", "n")))
            case 1:
                world.put("Node", "n", spec={"unschedulable": chance.random() < 0.5})
            case 2:
                await clock.advance(chance.choice((1, 40)))
            case _:
                said = world.probes.said.get(f"llm/n{node}", {})
                word = {f"http://10.0.{node}.{server}:11434": chance.choice(words)}
                world.probes.said[f"llm/n{node}"] = {**said, **word}
        assert world.of(few) == world.fresh(few)


def test_a_machine_concerns_those_who_have_a_pod_there(world: World) -> None:
    world.pod(5, 0, "other")
    world.all()
    world.anew()
    world.put("Node", "other", spec={"unschedulable": True})
    world.all()
    assert world.anew() == ["n5"]


def test_a_claim_concerns_the_namespace(world: World) -> None:
    world.all()
    world.anew()
    world.put("PersistentVolumeClaim", "models-n0-0", spec={})
    world.all()
    assert len(world.anew()) == NODES


async def test_silence_is_noticed_though_nothing_changes(world: World, clock: FakeClock) -> None:
    world.all()
    world.anew()
    await clock.advance(subject.LASTING.total_seconds())
    world.all()
    assert len(world.anew()) == NODES


def test_one_that_cannot_be_read_has_no_servers(world: World) -> None:
    world.put("OllamaNode", "n1", spec={"replicas": "many"})
    assert len(world.all()) == (NODES - 1) * EACH


def test_one_that_is_made_again_is_not_the_one_before(world: World) -> None:
    world.all()
    world.anew()
    world.servers.forget("llm", "n2")
    world.all()
    assert world.anew() == ["n2"]
