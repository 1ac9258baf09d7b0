"""The dashboard's files: what there is of them, how large, and how they are served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from starlette.applications import Starlette
from starlette.testclient import TestClient

from ollama_fleet.console import dashboard

FILES = {file.name: file for file in dashboard.page()}
TEXTS = {name: file.content.decode() for name, file in FILES.items()}
SOURCES = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
ROOT = Path(__file__).parents[3]
LIMIT = 100_000
"""Bytes before anything is seen, uncompressed."""


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(Starlette(routes=dashboard.routes()))


def first_paint() -> set[str]:
    """The start, what it names, and what these import, but for what they import later on."""
    found = {dashboard.START}
    ahead = [
        name.removeprefix("/page/") for name in re.findall(r'"(/page/[^"]+)"', TEXTS["index.html"])
    ]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            folder = Path(name).parent
            for given in re.findall(r'^import .*?from "(\./|\.\./)([^"]+)";', TEXTS[name], re.M):
                up, rest = given
                at = folder.parent if up == "../" else folder
                ahead.append(str(at / rest))
    return found


def test_first_paint_is_small() -> None:
    seen = first_paint()
    assert {"main.js", "store.js", "views/overview.js", "style.css"} <= seen
    assert sum(len(FILES[name].content) for name in seen) < LIMIT


def test_every_file_is_reachable() -> None:
    later = set(re.findall(r'import\("\./([^"]+)"\)', TEXTS["main.js"]))
    assert first_paint() | later == set(FILES)


def test_the_wheel_has_them() -> None:
    builder = WheelBuilder(str(ROOT))
    packed = {Path(one.distribution_path).as_posix() for one in builder.recurse_included_files()}
    assert {f"ollama_fleet/console/page/{name}" for name in FILES} <= packed


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    start = TEXTS["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", start)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", start))
    for name, text in TEXTS.items():
        elsewhere = re.findall(r"https?://[^\s\"'`)]+", text)
        assert [one for one in elsewhere if one != "http://www.w3.org/2000/svg"] == [], name


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_is_shown_is_set_as_text(name: str) -> None:
    risky = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    )
    assert not re.search(risky, SOURCES[name])


def test_the_pages_policy_is_strict(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().partition(" ")[::2]
        for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    for source in ("script-src", "style-src", "img-src", "connect-src"):
        assert policy[source] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", sorted(set(FILES) - {dashboard.START}))
def test_files_are_served_as_what_they_are(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    assert answer.content == FILES[name].content
    assert answer.headers["content-type"] == dashboard.TYPES[name.rpartition(".")[2]]
    assert answer.headers["content-security-policy"] == dashboard.HEADERS["Content-Security-Policy"]
    plain = client.get(f"/page/{name}", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content


def test_what_a_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    again = client.get("/", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/", headers={"if-none-match": 'W/"other"'}).status_code == 200


def test_nothing_else_is_served(client: TestClient) -> None:
    for path in ("/page/", "/page/../dashboard.py", "/page/%2e%2e/dashboard.py", "/index.html"):
        assert client.get(path).status_code == 404
