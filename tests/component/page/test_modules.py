"""The page's pure modules, in the browser, beside what the command line does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from ollama_fleet.api.names import canonical
from ollama_fleet.api.quantity import gib
from ollama_fleet.cli import traffic, views
from ollama_fleet.plan.times import span
from tests.browsing import visit
from tests.component.page.double import agent, fleet, node, task

SIZES = [1, 1023, 2048, 640 * 2**20, 2**30, 11.9 * 2**30, 14.25 * 2**30, 42 * 2**30, 1.5e12]
STORE = """async ([events, what]) => {
  const { Store, ...rest } = await import("/page/store.js");
  const store = new Store();
  store.begin();
  const known = events.map(([name, data]) => store.take(name, data));
  return { told: rest[what]?.(store), known, synced: store.synced,
    tasks: store.all("task").map((one) => one.id), agents: store.all("agent").map((one) => one.id),
    events: store.all("event").map((one) => one.id) };
}"""


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """The page before anybody signs in."""
    with fleet().served() as url, visit(browser) as page:
        page.goto(url)
        page.wait_for_selector("form.signin")
        yield page


def each(page: Page, function: str, *calls: tuple[Any, ...]) -> list[Any]:
    """What a function of format.js says to each of these."""
    script = """async ([name, calls]) => {
      const format = await import("/page/format.js");
      return calls.map((given) => format[name](...given));
    }"""
    told: list[Any] = page.evaluate(script, [function, [list(one) for one in calls]])
    return told


def test_sizes_are_the_command_lines(blank: Page) -> None:
    sizes = [int(size) for size in SIZES]
    assert each(blank, "gib", *((one,) for one in sizes)) == [gib(one) for one in sizes]
    told = [views.download(one) for one in sizes]
    assert each(blank, "download", *((one,) for one in sizes)) == told
    assert each(blank, "rate", (0,), (420_000_000,)) == ["", views.rate(420_000_000)]


def test_times_are_the_command_lines(blank: Page) -> None:
    times = [0, 0.4, 8, 59.6, 60, 250, 11520, 90000]
    assert each(blank, "span", *((one,) for one in times)) == [span(one) for one in times]


def test_names_are_the_command_lines(blank: Page) -> None:
    names = ["llama3.2", "llama3.1:8b", "hf.co/a/b:Q4", "me/mine", "registry.ollama.ai/library/x"]
    names += ["host:5000/a/b"]
    assert each(blank, "canonical", *((one,) for one in names)) == [canonical(one) for one in names]


def test_figures_of_traffic_are_the_command_lines(blank: Page) -> None:
    values = [None, 0, 0.04, 0.213, 1.0, 1.42, 9.96, 12.0, 38.25, 100.4, 1234.5]
    calls = [(one,) for one in values]
    assert each(blank, "seconds", *calls) == [traffic._time(one) for one in values]
    assert each(blank, "perSecond", *calls) == [traffic._rate(one) for one in values]
    assert each(blank, "both", (None, None), (0.21, 1.4)) == ["-", "0.21 s / 1.4 s"]


def test_what_is_not_known_is_told_so(blank: Page) -> None:
    gib24 = 24 * 2**30
    told = each(blank, "amounts", (0, gib24), (None, gib24), (None, None), (gib24 / 2, gib24))
    assert told == ["0 / 24 GiB", "24 GiB", "unknown", "12 GiB / 24 GiB"]
    assert each(blank, "share", (None, 5), (5, 0), (6, 3), (1, 4)) == [None, None, 1, 0.25]
    assert each(blank, "age", ("nonsense", 0), (None, 0)) == ["", ""]


def stored(page: Page, *events: tuple[str, Any], what: str = "") -> Any:
    return page.evaluate(STORE, [[list(one) for one in events], what])


def test_events_make_the_state(blank: Page) -> None:
    b, a = agent("b"), agent("a")
    told = stored(blank, ("agent", b), ("agent", a), ("synced", {}))
    assert (told["agents"], told["synced"]) == (["llm.a", "llm.b"], True)
    told = stored(blank, ("agent", b), ("agent", a), ("agent-removed", {"id": "llm.b"}))
    assert (told["agents"], told["synced"]) == (["llm.a"], False)


def test_what_nobody_knows_is_left_alone(blank: Page) -> None:
    odd = [("weather", {"id": "x"}), ("agent", {}), ("agent", None), ("synced-removed", {"id": 1})]
    assert stored(blank, *odd)["known"] == [False] * 4


def test_what_is_not_told_again_has_gone(blank: Page) -> None:
    script = """async ([first, second]) => {
      const { Store } = await import("/page/store.js");
      const store = new Store();
      for (const events of [first, second]) {
        store.begin();
        for (const [name, data] of events) store.take(name, data);
        store.take("synced", {});
      }
      return store.all("agent").map((one) => one.id);
    }"""
    first = [["agent", agent("a")], ["agent", agent("b")]]
    assert blank.evaluate(script, [first, first[1:]]) == ["llm.b"]


def test_the_newest_task_is_first_and_the_latest_event(blank: Page) -> None:
    old, new = task("a", "s", created_at="2026-01-01T00:00:00Z"), task("b", "s")
    early = {"id": "1", "last_seen": "2026-01-01T00:00:00Z"}
    late = {"id": "2", "last_seen": "2026-01-02T00:00:00Z"}
    told = stored(blank, ("task", old), ("task", new), ("event", early), ("event", late))
    assert told["tasks"] == [new["id"], old["id"]]
    assert told["events"] == ["2", "1"]


def test_the_fleet_in_figures(blank: Page) -> None:
    events = [
        ("agent", agent("a", 24, 6)),
        ("agent", agent("b", 12, 0, state="Offline")),
        ("node", node("fleet", replicas=120, ready_replicas=118, servers_omitted=20)),
        ("traffic", {"id": "llm.gone", "requests_per_second": 9}),
        ("router", {"id": "llm.chat", "name": "chat", "namespace": "llm"}),
    ]
    told = stored(blank, *events, what="heading")["told"]
    assert (told["ready"], told["servers"], told["omitted"]) == (118, 120, 20)
    assert (told["used"], told["total"]) == (6 * 2**30, 36 * 2**30)
    assert (told["rate"], told["queued"], told["active"]) == (None, None, 0)
    figures = {"requests_per_second": 2, "in_flight": 3, "queued": 1, "first_token_p50_s": 0.2}
    other = {"id": "llm.other", "name": "other", "namespace": "llm", "traffic": figures}
    more = [("traffic", {"id": "llm.chat", **figures, "first_token_p50_s": 0.5}), ("router", other)]
    told = stored(blank, *events, *more, what="heading")["told"]
    assert (told["rate"], told["active"], told["queued"]) == (4, 6, 2)
    assert told["p50"] == 0.5  # of several routers the slowest


def test_what_is_told_once_needs_attention_once(blank: Page) -> None:
    message = "no GPU machine has 80 GiB. Add one."
    events = [
        ("node", node("fleet", stalled=True, reason="Unschedulable", message=message)),
        ("agent", agent("a", state="Unfit", message=message)),
        ("agent", agent("b", state="Offline", message="no answer for 2m")),
        ("agent", agent("c", state="Ready", message="VulnerableVersion")),
        ("task", task("m:1", "a", "Failed", reason="NoSpace", message="no space left")),
        ("task", task("m:1", "b", "Waiting", message="its turn comes")),
    ]
    told = stored(blank, *events, what="attention")["told"]
    assert [(one["what"], one["reason"], one["message"]) for one in told] == [
        ("OllamaNode fleet", "Unschedulable", message),
        ("server b", "Offline", "no answer for 2m"),
        ("m:1 on a", "NoSpace", "no space left"),
    ]


def test_models_by_servers(blank: Page) -> None:
    events = [
        ("agent", agent("a", models_resident=["Llama3.2", "mine:1"])),
        ("task", task("llama3.2:latest", "a")),
        ("task", task("llama3.2:latest", "b", "Pulling", progress=0.714)),
    ]
    script = """async (events) => {
      const { Store, matrix } = await import("/page/store.js");
      const { word } = await import("/page/format.js");
      const store = new Store();
      for (const [name, data] of events) store.take(name, data);
      return matrix(store).map((row) => [row.model, [...row.cells].map(([id, cell]) =>
        [id, cell.resident ? "in memory" : word(cell.task)])]);
    }"""
    assert blank.evaluate(script, [list(one) for one in events]) == [
        ["llama3.2:latest", [["llm.a", "in memory"], ["llm.b", "71%"]]],
        ["mine:1", [["llm.a", "in memory"]]],
    ]


def test_what_is_read_of_the_stream(blank: Page) -> None:
    script = """async (blocks) => {
      const { parsed } = await import("/page/stream.js");
      return blocks.map(parsed);
    }"""
    blocks = [
        ": all is well",
        "retry: 3000",
        'event: agent\ndata: {"id":"a"}',
        "event: x\ndata: {",
        "data: 1",
    ]
    assert blank.evaluate(script, blocks) == [
        None,
        None,
        ["agent", {"id": "a"}],
        None,
        ["message", 1],
    ]
