"""The dashboard of the installed console in a browser, over a running fleet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from dev.browser import chromium
from dev.cluster import Cluster
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, ROUTER
from tests.browsing import DESKTOP, PAGES, PHONE, found_by_axe, too_wide, turn_to, visit
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import (
    LARGE,
    OPERATOR,
    SMALL,
    Api,
    Fleet,
    Registry,
    distribution,
    ollama_node,
    router,
)
from tests.cluster.people import People
from tests.cluster.waiting import eventually

HERE = "dashboard"
HOSTILE = "<img/src=x/onerror=window.hit=1>"
SOON = 30_000
"""Milliseconds that Kubernetes, operator and console may take until a change shows."""


@dataclass(frozen=True)
class Scene:
    """A fleet, who may see it, and where the console answers."""

    fleet: Fleet
    people: People
    url: str

    def enter(self, page: Page, name: str = "editor") -> None:
        """Sign in by the address."""
        token = self.people.headers(name)["Authorization"].removeprefix("Bearer ")
        page.goto(f"{self.url}/#token={token}")
        expect(page.locator("#who")).to_have_text(f"{HERE}:{name}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def scene(
    cluster: Cluster,
    operator: None,
    api: Api,
    kubectl: Kubectl,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """A server with a model, a router, and one that is not there."""
    rolled_out = ("rollout", "status", "-n", OPERATOR, "--timeout=60s")
    kubectl(*rolled_out, f"deployment/{OPERATOR}-console")
    labels = "app.kubernetes.io/component=console"
    (pod,) = eventually("the console runs", lambda: api.all(POD, OPERATOR, labels))
    kubectl("create", "namespace", HERE)
    fleet = Fleet(cluster, api, HERE)
    fleet.apply(
        ollama_node("a"), distribution("m", SMALL, target={"ollamaNodes": ["a"]}), router("chat")
    )
    away = {"external": {"url": "http://127.0.0.1:1"}}
    fleet.apply({**ollama_node("away"), "spec": away})
    people = People(fleet, kubectl, tmp_path_factory.mktemp("people"))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    fleet.ready(ROUTER, "chat")
    fleet.stalls(OLLAMA_NODE, "away", "Unreachable")
    yield Scene(fleet, people, f"http://{pod['status']['podIP']}:8080")
    fleet.end()


def dialog(page: Page) -> Locator:
    found = page.locator("dialog[open]")
    expect(found).to_be_visible()
    return found


def test_signs_in_and_stays_so_until_signed_out(scene: Scene, browser: Browser) -> None:
    token = scene.people.headers("viewer")["Authorization"].removeprefix("Bearer ")
    with visit(browser) as page:
        page.goto(scene.url)
        page.get_by_label("Kubernetes bearer token").fill("no.such.token")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("Kubernetes does not know this token")
        page.get_by_label("Kubernetes bearer token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#who")).to_have_text(f"{HERE}:viewer")
        expect(page.locator("main")).to_contain_text("a-0")
        page.reload()
        expect(page.locator("main")).to_contain_text("a-0")
        page.get_by_role("button", name="Sign out").click()
        page.reload()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]


def test_a_server_joins_and_gets_a_model(
    scene: Scene, browser: Browser, registry: Registry
) -> None:
    fleet = scene.fleet
    with visit(browser) as page:
        scene.enter(page)
        needs = page.locator(".needs")
        expect(needs).to_contain_text("OllamaNode away")
        expect(needs).to_contain_text("Unreachable:")

        fleet.apply(ollama_node("b"))
        row = page.locator("section[aria-labelledby=servers] tr", has_text="b-0")
        expect(row).to_contain_text("Ready", timeout=SOON)

        turn_to(page, "models")
        page.get_by_role("button", name="Distribute a model").click()
        go = dialog(page).get_by_role("button", name="Distribute", exact=True)
        expect(go).to_be_disabled()
        dialog(page).get_by_label("Model").fill(LARGE)
        expect(dialog(page)).to_contain_text("to download: fits", timeout=SOON)
        dialog(page).get_by_label("Chosen servers").check()
        dialog(page).get_by_label(f"{HERE}.b-0").check()
        expect(go).to_be_enabled()
        with registry.pace(10e6):
            go.click()
            expect(dialog(page)).to_contain_text("Pulling", timeout=SOON)
        expect(dialog(page)).to_contain_text(f"{LARGE} is installed on the server.", timeout=SOON)
        dialog(page).get_by_role("button", name="Close").last.click()
        cell = page.get_by_role("button", name=f"{LARGE} on b-0: installed")
        expect(cell).to_contain_text(registry.digest(LARGE).removeprefix("sha256:")[:12])
        (made,) = (one for one in fleet.all(MODEL_DISTRIBUTION) if one["metadata"]["name"] != "m")
        assert made["spec"]["target"] == {"servers": ["b-0"]}
        cell.click()
        expect(dialog(page)).to_contain_text(made["metadata"]["name"])


def test_cordons_and_suspends(scene: Scene, browser: Browser) -> None:
    fleet = scene.fleet
    with visit(browser) as page:
        scene.enter(page)
        turn_to(page, "servers")
        row = page.locator("tr", has_text="a-0")
        row.get_by_role("button", name="Cordon").click()
        expect(dialog(page)).to_contain_text("a-0")
        dialog(page).get_by_role("button", name="Cordon", exact=True).click()
        expect(row.get_by_role("button", name="Uncordon")).to_be_visible()
        expect(row).to_contain_text(re.compile("Cordoned|Draining"))
        assert spec(fleet.get(OLLAMA_NODE, "a"))["cordoned"] is True
        row.get_by_role("button", name="Uncordon").click()
        dialog(page).get_by_role("button", name="Uncordon", exact=True).click()
        expect(row).to_contain_text("Ready", timeout=SOON)
        assert not spec(fleet.get(OLLAMA_NODE, "a")).get("cordoned")

        turn_to(page, "pulls")
        row = page.locator("section[aria-labelledby=wanted] tr", has_text=SMALL)
        row.get_by_role("button", name="Suspend").click()
        dialog(page).get_by_role("button", name="Suspend", exact=True).click()
        expect(row).to_contain_text("Suspended")
        assert spec(fleet.get(MODEL_DISTRIBUTION, "m"))["suspend"] is True
        row.get_by_role("button", name="Resume").click()
        dialog(page).get_by_role("button", name="Resume", exact=True).click()
        expect(row).not_to_contain_text("Suspended", timeout=SOON)


def test_what_failed_is_told_and_tried_again(scene: Scene, browser: Browser) -> None:
    fleet = scene.fleet
    (pod,) = fleet.pods("a")
    server = fleet.emulator(pod)
    server.fault("error", path="/api/pull", message="no space left on device")
    retry = {"retry": {"backoff": "100ms"}}
    only = {"servers": ["a-0"]}
    fleet.apply(distribution("f", LARGE, target=only, rollout=retry))
    with visit(browser) as page:
        scene.enter(page)
        needs = page.locator(".needs")
        expect(needs).to_contain_text("no space left on device", timeout=SOON)
        server.mend()
        turn_to(page, "pulls")
        row = page.locator("section[aria-labelledby=tasks] tr", has_text=LARGE).filter(
            has_text="a-0"
        )
        row.get_by_role("button", name="Retry").click()
        expect(dialog(page)).to_contain_text("no space left on device")
        dialog(page).get_by_role("button", name="Retry").click()
        expect(row).to_contain_text("Installed", timeout=SOON)
        turn_to(page, "events")
        event = page.locator("tr", has_text="OllamaNode away")
        expect(event.first).to_contain_text("Unreachable")
        event.first.get_by_role("button").click()
        expect(dialog(page)).to_contain_text("Unreachable:")


def spec(obj: Any) -> Any:
    return obj["spec"]


def test_who_may_only_look_changes_nothing(scene: Scene, browser: Browser) -> None:
    with visit(browser) as page:
        scene.enter(page, "viewer")
        turn_to(page, "servers")
        button = page.locator("tr", has_text="a-0").get_by_role("button", name="Cordon")
        expect(button).to_have_attribute("aria-disabled", "true")
        button.click(force=True)
        expect(dialog(page)).to_contain_text(
            f"system:serviceaccount:{HERE}:viewer may not patch ollamanodes in namespace {HERE}"
        )
        page.keyboard.press("Escape")
        # even where the page would let them
        script = """async (path) => {
          const { call } = await import("/page/api.js");
          return call("PATCH", path, { cordoned: true }).then(() => 200, (error) =>
            [error.status, error.message]);
        }"""
        status, sentence = page.evaluate(script, f"/api/nodes/{HERE}.a")
        assert (status, "may not patch ollamanodes" in sentence) == (403, True)
    assert not spec(scene.fleet.get(OLLAMA_NODE, "a")).get("cordoned")


def test_what_a_machine_says_of_itself_is_inert(scene: Scene, browser: Browser) -> None:
    machine = {
        "machine_name": HOSTILE,
        "ip_address": "127.0.0.1",
        "ollama_version": HOSTILE,
        "ollama_port": 2,
        "gpu_model": HOSTILE,
        "gpu_memory_bytes": 2**34,
        "gpu_count": 1,
    }
    call = f"POST /api/agents?namespace={HERE}"
    answer = scene.people.ask("agent", scene.url, call, machine)
    assert answer.status_code == 201
    with visit(browser) as page:
        scene.enter(page)
        turn_to(page, "servers")
        row = page.locator("tr", has_text=HOSTILE)
        expect(row).to_be_visible()
        row.get_by_role("button").first.click()
        expect(dialog(page)).to_contain_text(HOSTILE)
        page.keyboard.press("Escape")
        for name in PAGES:
            turn_to(page, name)
        assert page.evaluate("[window.hit, document.images.length]") == [None, 1]


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_everybody_can_use_it(
    scene: Scene, browser: Browser, size: tuple[int, int], theme: str
) -> None:
    with visit(browser, size, theme) as page:
        scene.enter(page)
        for name in PAGES:
            turn_to(page, name)
            expect(page.locator("main h1")).to_have_text(re.compile("."))
            assert (found_by_axe(page), max(0, too_wide(page))) == ([], 0), name
