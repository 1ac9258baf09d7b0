"""The dashboard in a browser, over a made-up fleet: what it shows, does and survives."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import DESKTOP, PAGES, PHONE, found_by_axe, too_wide, turn_to, visit
from tests.component.page.double import EDITOR, VIEWER, Double, agent, task

WATCH = """() => {
  window.touched = new Set();
  const row = (node) => (node.closest ? node : node.parentElement).closest("tr");
  const note = (all) => all.forEach((one) =>
    window.touched.add(row(one.target)?.querySelector("th").textContent ?? "outside"));
  new MutationObserver(note).observe(document.querySelector("section[aria-labelledby=servers]"),
    { subtree: true, childList: true, attributes: true, characterData: true });
}"""
"""Notes whose rows of the servers change."""
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>:1b'


def signed_in(page: Page, double: Double, token: str = EDITOR) -> None:
    page.goto(f"{double.url}/#token={token}")
    page.wait_for_selector("#who:not(:empty)")


def text(page: Page, selector: str = "main") -> str:
    return re.sub(r"\s+", " ", page.locator(selector).inner_text())


def dialog(page: Page) -> Any:
    found = page.locator("dialog[open]")
    expect(found).to_be_visible()
    return found


# signing in


def test_signs_in_with_a_token_and_out_again(browser: Browser, double: Double) -> None:
    with visit(browser) as page:
        page.goto(double.url)
        page.get_by_label("Kubernetes bearer token").fill("nobody")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("Kubernetes does not know this token")
        page.get_by_label("Kubernetes bearer token").fill(EDITOR)
        page.keyboard.press("Enter")
        expect(page.locator("#who")).to_have_text("llm:editor")
        page.reload()
        expect(page.locator("#who")).to_have_text("llm:editor")
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Kubernetes bearer token")).to_be_focused()
        assert page.evaluate("sessionStorage.length") == 0
        page.reload()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_token_in_the_address_is_taken_from_it_at_once(page: Page, double: Double) -> None:
    assert page.url == f"{double.url}/#/"
    page.go_back()
    assert EDITOR not in page.url


def test_without_a_token_where_that_is_allowed(browser: Browser, double: Double) -> None:
    double.anonymous = True
    with visit(browser) as page:
        page.goto(double.url)
        expect(page.locator("#who")).to_have_text("Nobody in particular")
        turn_to(page, "servers")
        button = page.get_by_role("button", name="Cordon").first
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_have_attribute("title", re.compile("sign in"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_label("Kubernetes bearer token")).to_be_visible()


def test_who_may_not_is_told_why(browser: Browser, double: Double) -> None:
    with visit(browser) as page:
        signed_in(page, double, VIEWER)
        turn_to(page, "servers")
        button = page.get_by_role("button", name="Cordon").first
        expect(button).to_have_attribute(
            "title", re.compile("may not patch ollamanodes in namespace llm")
        )
        button.click(force=True)
        expect(dialog(page)).to_contain_text("may not patch ollamanodes in namespace llm")
        page.keyboard.press("Escape")
        page.keyboard.press("d")
        dialog(page).get_by_label("Model").fill("llama3.1:8b")
        expect(dialog(page).get_by_role("alert")).to_contain_text(
            "may not create modeldistributions"
        )
        expect(dialog(page).locator("tbody tr")).to_have_count(3)
        expect(dialog(page).get_by_role("button", name="Distribute")).to_be_disabled()
    assert double.writes == []


# what is shown


def test_one_screen_tells_what_the_command_line_does(page: Page) -> None:
    told = text(page)
    for words in (
        "2 of 3",
        "14.2 GiB of 42 GiB",
        "router chat: 2/2 ready, http://chat.llm.svc:11434",
        "OllamaNode spare Unschedulable: 0 of 3 GPU machines have 80 GiB. Lower spec.gpu.memory",
        "server fleet-gpu-6g Offline: no answer for 2m: see kubectl -n llm logs fleet-x7v2p",
        "llama3.1:8b on fleet-gpu-6g DoesNotFit: needs 7.1 GiB, has 6.0 GiB",
        "fleet-gpu-24g Ready 14.2 GiB / 24 GiB 2 gpt-oss:20b",
        "fleet-gpu-12g llama3.1:8b 71% 420 MB/s 3s",
        "0.21 s / 1.4 s",
    ):
        assert words in told
    figures = [text(page, f".figures > div:nth-child({number})") for number in (1, 3, 6)]
    assert figures == ["servers ready 2 of 3", "requests/s 4.2", "requests under way 2"]


def test_models_by_servers_with_digests_and_drift(page: Page) -> None:
    turn_to(page, "models")
    assert text(page, ".matrix tbody tr:nth-child(3)") == (
        "qwen3:4b 2 of 3 installed 46e0c10c039e installed ≠ 365c0bd3c000 waiting"
    )
    page.get_by_role("button", name="qwen3:4b on fleet-gpu-24g").click()
    told = dialog(page).inner_text()
    assert "Drifted" in told
    assert "sha256:365c0bd3c000a25d28ddbf732fe1c6add414de7275464c4e4d1c3b5fcb5d8ad1" in told
    assert "sha256:46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e" in told


WHY = (
    ("", "OllamaNode spare", "Unschedulable: 0 of 3 GPU machines"),
    ("", "llama3.1:8b on fleet-gpu-6g", "DoesNotFit: needs 7.1 GiB, has 6.0 GiB"),
    ("servers", "fleet-gpu-24g", "It answers, and takes requests and pulls."),
    ("pulls", "base", "Reconciling: 3 of 6 tasks are installed"),
    ("routers", "chat", "http://chat.llm.svc:11434"),
    ("routers", "fleet-gpu-6g", "The breaker is open"),
    ("routers", "fleet-gpu-12g", "the model was in memory"),
    ("events", "ModelDistribution base", "3 of 6 tasks are installed"),
    ("models", "gpt-oss:20b on fleet-gpu-6g", "No ModelDistribution wants it there."),
    ("models", "gpt-oss:20b", "Wanted by ModelDistribution base."),
)
"""Page, button there, and what it answers."""


def test_everything_answers_why(page: Page) -> None:
    for where, name, words in WHY:
        turn_to(page, where)
        there = page.locator("main").get_by_role("button", name=name, exact="on" not in name)
        there.first.click()
        expect(dialog(page)).to_contain_text(words)
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)


def test_what_is_installed_is_asked_when_it_is_wanted(page: Page) -> None:
    turn_to(page, "servers")
    page.get_by_role("button", name="fleet-gpu-24g").click()
    dialog(page).get_by_role("button", name="Show what is installed").click()
    expect(dialog(page)).to_contain_text("gpt-oss:20b 13.8 GB 46e0c10c039e")


def test_hostile_names_are_inert(page: Page, double: Double) -> None:
    double.put("agent", agent("evil", models_resident=[HOSTILE], message=HOSTILE, state="Unfit"))
    double.put("task", task(HOSTILE, "evil", "Failed", message=HOSTILE, digest=HOSTILE))
    event = next(iter(double.kept["event"].values()))
    double.put("event", {**event, "id": "evil", "message": HOSTILE, "name": HOSTILE})
    for name in PAGES:
        turn_to(page, name)
        if name != "routers":
            expect(page.locator("main")).to_contain_text("onerror")
        opener = page.locator("main").get_by_role("button", name=re.compile("onerror"))
        if opener.count():
            opener.first.click()
            expect(dialog(page)).to_contain_text("onerror")
            page.keyboard.press("Escape")
    assert page.evaluate("[window.hit, document.images.length]") == [None, 1]


# as it happens


def test_what_changes_is_shown_and_nothing_else_is_touched(page: Page, double: Double) -> None:
    page.evaluate(WATCH)
    double.change("agent", "llm.fleet-gpu-12g", active_requests=7)
    row = page.locator("tr", has_text="fleet-gpu-12g").first
    expect(row).to_contain_text("7")
    assert page.evaluate("[...window.touched]") == ["fleet-gpu-12g"]


def test_servers_come_and_go(page: Page, double: Double) -> None:
    double.put("agent", agent("fleet-gpu-48g", 48, 0))
    expect(page.locator("main")).to_contain_text("fleet-gpu-48g")
    double.drop("agent", "llm.fleet-gpu-48g")
    expect(page.locator("main")).not_to_contain_text("fleet-gpu-48g")


def test_pulls_are_told_as_they_end(page: Page, double: Double) -> None:
    double.change("task", "fleet-gpu-12g-llama3.1-8b", state="Installed", status="completed")
    expect(page.locator("#polite")).to_have_text("fleet-gpu-12g: llama3.1:8b is installed.")
    expect(page.locator("main")).to_contain_text("Nothing is being pulled.")


def test_a_lost_connection_is_told_and_mended(page: Page, double: Double) -> None:
    double.cut()
    lost = page.locator("#lost")
    expect(lost).to_contain_text("The connection is lost.")
    expect(lost).to_contain_text("What is shown is as of")
    expect(lost).to_contain_text("Trying again in")
    expect(page.locator("main")).to_contain_text("fleet-gpu-24g")
    expect(lost).to_contain_text("Kubernetes cannot be asked now")
    assert found_by_axe(page) == []
    del double.kept["agent"]["llm.fleet-gpu-6g"]
    double.cut(away=False)
    lost.get_by_role("button", name="Try now").click()
    expect(page.locator("#link")).to_have_text("Live")
    expect(lost).to_be_hidden()
    expect(page.locator("main")).not_to_contain_text("server fleet-gpu-6g")


# what is done


def test_a_model_is_distributed_once_it_is_told_whether_it_fits(page: Page, double: Double) -> None:
    turn_to(page, "models")
    page.get_by_role("button", name="Distribute a model").click()
    go = dialog(page).get_by_role("button", name="Distribute", exact=True)
    expect(go).to_be_disabled()
    dialog(page).get_by_label("Model").fill("llama3.1:8b")
    expect(dialog(page)).to_contain_text(
        "fits 2 of 3 servers. Where it does not, it is told as a misfit."
    )
    expect(go).to_be_enabled()
    dialog(page).get_by_label("Chosen servers").check()
    expect(dialog(page)).to_contain_text("Choose at least one server.")
    expect(go).to_be_disabled()
    dialog(page).get_by_label("llm.fleet-gpu-24g").check()
    expect(dialog(page)).to_contain_text("fits 1 of 1 servers")
    dialog(page).get_by_label("Model").fill("llama3.1:8b-")
    expect(go).to_be_disabled()
    dialog(page).get_by_label("Model").fill("llama3.1:8b")
    expect(go).to_be_enabled()
    go.click()
    expect(dialog(page)).to_contain_text("llama3.1:8b is on its way: installed on 0 of 1 servers.")
    (write,) = double.writes
    wanted = {"model_name": "llama3.1:8b", "target": "specific", "agent_ids": ["llm.fleet-gpu-24g"]}
    assert write == ("POST", "/api/models/distribute", wanted)
    double.put("task", task("llama3.1:8b", "fleet-gpu-24g"))
    expect(dialog(page)).to_contain_text("llama3.1:8b is installed on the server.")


def test_cordoning_says_first_which_servers_it_means(page: Page, double: Double) -> None:
    turn_to(page, "servers")
    page.get_by_role("button", name="Cordon").first.click()
    for name in ("fleet-gpu-12g", "fleet-gpu-24g", "fleet-gpu-6g"):
        expect(dialog(page)).to_contain_text(name)
    assert double.writes == []
    dialog(page).get_by_role("button", name="Cordon", exact=True).click()
    expect(page.locator("tr", has_text="fleet-gpu-24g")).to_contain_text("Cordoned")
    assert double.writes == [("PATCH", "/api/nodes/llm.fleet", {"cordoned": True})]
    expect(page.get_by_role("button", name="Uncordon")).to_have_count(3)
    expect(page.locator("#polite")).to_contain_text("OllamaNode fleet is cordoned.")


def test_distributions_are_suspended_and_tasks_tried_again(page: Page, double: Double) -> None:
    double.change(
        "task", "fleet-gpu-6g-qwen3-4b", state="Failed", status="failed", error="no space left"
    )
    turn_to(page, "pulls")
    row = page.locator("tr", has_text="no space left")
    row.get_by_role("button", name="Retry").click()
    expect(dialog(page)).to_contain_text("no space left")
    dialog(page).get_by_role("button", name="Retry").click()
    expect(page.locator("tr", has_text="qwen3:4b").filter(has_text="Waiting")).to_be_visible()
    page.get_by_role("button", name="Suspend").click()
    dialog(page).get_by_role("button", name="Suspend").click()
    page.get_by_role("button", name="Resume").click()
    dialog(page).get_by_role("button", name="Resume").click()
    expect(page.locator("section[aria-labelledby=wanted] tbody")).to_contain_text("Reconciling")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator("main")).not_to_contain_text("Outdated")
    assert [write[:2] for write in double.writes] == [
        ("POST", "/api/tasks/fleet-gpu-6g-qwen3-4b/retry"),
        ("PATCH", "/api/distributions/llm.base"),
        ("PATCH", "/api/distributions/llm.base"),
    ]


def test_a_refusal_is_shown_as_it_is(page: Page, double: Double) -> None:
    turn_to(page, "servers")
    page.evaluate(f"sessionStorage.setItem('token', '{VIEWER}')")
    page.get_by_role("button", name="Cordon").first.click()
    dialog(page).get_by_role("button", name="Cordon", exact=True).click()
    expect(dialog(page).get_by_role("alert")).to_have_text(
        "viewer may not do that in namespace llm."
    )


# keys, filters, sizes


def test_keys(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("3")
    expect(page.get_by_role("heading", name="Servers", level=1)).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("24g")
    expect(page.locator("main tbody tr")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("main tbody tr")).to_have_count(3)
    page.locator("#filter").blur()
    page.keyboard.press("?")
    expect(dialog(page)).to_contain_text("filter what is shown")


def test_arrow_keys_go_through_the_matrix(page: Page) -> None:
    turn_to(page, "models")
    here: Callable[[], str] = lambda: page.evaluate(  # noqa: E731
        "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent"
    )
    page.locator(".matrix tbody button").first.focus()
    seen = []
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "End", "Home", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        seen.append(here())
    assert seen == [
        "gpt-oss:20b on fleet-gpu-12g: not wanted",
        "llama3.1:8b on fleet-gpu-12g: 71%",
        "llama3.1:8b on fleet-gpu-24g: not wanted",
        "llama3.1:8b on fleet-gpu-6g: misfit",
        "llama3.1:8b",
        "gpt-oss:20b",
        "gpt-oss:20b",
    ]
    assert page.locator(".matrix [tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    expect(dialog(page)).to_contain_text("gpt-oss:20b")


def test_the_theme_is_kept(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.keyboard.press("t")
    page.keyboard.press("t")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    dark = page.evaluate(ground)
    page.reload()
    page.wait_for_selector("#who:not(:empty)")
    assert page.evaluate(ground) == dark != light


def test_long_tables_come_in_pages(page: Page, double: Double) -> None:
    double.put("task", *(task(f"model-{number}:1b", "fleet-gpu-24g") for number in range(250)))
    turn_to(page, "pulls")
    rows = page.locator("section[aria-labelledby=tasks] tbody tr")
    expect(page.locator(".range").first).to_have_text("1–100 of 256")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="More").first.click()
    page.get_by_role("button", name="More").first.click()
    expect(page.locator(".range").first).to_have_text("201–256 of 256")
    expect(rows).to_have_count(56)
    page.get_by_label("Which tasks").select_option("running")
    expect(rows).to_have_count(1)


def test_many_servers_come_in_pages_of_columns(page: Page, double: Double) -> None:
    double.put("agent", *(agent(f"n-{number:03}") for number in range(60)))
    turn_to(page, "models")
    heads = page.locator(".matrix thead th")
    expect(heads).to_have_count(26)
    page.get_by_role("button", name="Servers after").click()
    expect(page.locator("main")).to_contain_text("servers 25–48 of 63")
    page.get_by_role("searchbox").fill("n-05")
    expect(heads).to_have_count(12)
    assert too_wide(page) <= 0


@pytest.mark.parametrize(("size", "theme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_everybody_can_use_it(
    browser: Browser, double: Double, size: tuple[int, int], theme: str
) -> None:
    double.put("agent", agent("a-server-whose-name-is-as-long-as-names-of-pods-are-ever-to-be-0"))
    with visit(browser, size, theme) as page:
        page.goto(double.url)
        page.wait_for_selector("form.signin")
        assert (found_by_axe(page), too_wide(page)) == ([], 0)
        signed_in(page, double)
        for name in PAGES:
            turn_to(page, name)
            page.wait_for_selector("main h1")
            assert (found_by_axe(page), max(0, too_wide(page))) == ([], 0), name
        page.keyboard.press("d")
        dialog(page).get_by_label("Model").fill("llama3.1:8b")
        expect(dialog(page)).to_contain_text("fits 3 of 4 servers")
        assert (found_by_axe(page), max(0, too_wide(page))) == ([], 0)
        page.keyboard.press("Escape")
        turn_to(page, "pulls")
        page.locator("main tbody button.name").first.click()
        dialog(page)
        assert found_by_axe(page) == []
