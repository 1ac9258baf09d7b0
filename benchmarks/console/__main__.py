"""The dashboard with more and more servers: `make bench-console`.

The console's own code, over a fleet that is made up and changes 20 times a second, and the page in
Chromium. Each figure is beside that of the smallest fleet, on the same machine a moment before.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import uvicorn
from playwright.sync_api import Browser, CDPSession, Page

from benchmarks.console.made_up import MODELS, Fleet, Nowhere
from dev.browser import chromium
from ollama_fleet.console.app import Api, Parts
from ollama_fleet.console.fleet import Settings
from ollama_fleet.console.identity import Identity
from ollama_fleet.console.metrics import Metrics
from ollama_fleet.console.models import Models
from ollama_fleet.console.offers import Offers
from ollama_fleet.console.recent import Recent
from ollama_fleet.console.store import Store
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.kube import Kube

SIZES = (10, 100, 500)
RATE = 20
"""Changes a second."""
LOOK = 10.0
"""Seconds that each page is looked at."""
PAGES = ("", "models", "pulls")
MOST_BYTES = 100_000
"""Before the first paint, as they are."""
MOST_MS = 16.0
"""Of script for one change: less than a frame's time."""
RESULT = Path(__file__).parents[1] / "results" / "console.json"
LONG = """window.long = [];
new PerformanceObserver((all) => window.long.push(...all.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask" });"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SENT = """["resource", "navigation"].flatMap((one) => performance.getEntriesByType(one))
  .filter((one) => !one.name.includes("/api/"))
  .reduce((total, one) => total + one.decodedBodySize, 0)"""


@contextmanager
def console(fleet: Fleet) -> Iterator[str]:
    """The console over a fleet that changes meanwhile; its URL."""
    config: list[Any] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        kube = cast(Kube, Nowhere())
        store = Store()
        store.start(kube)
        parts = Parts(
            store,
            Identity(kube, anonymous=True),
            Models(None),
            _offers,
            Settings(),
            lambda: datetime.now(UTC),
            Metrics(),
            Traffic(kube, ()),
            Recent(),
        )
        for kind, obj in fleet.all():
            store.put(kind, obj)
        given = uvicorn.Config(Api(parts).routes(), port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(given)
        socket = given.bind_socket()
        config.append(f"http://127.0.0.1:{socket.getsockname()[1]}")
        serving = asyncio.create_task(server.serve([socket]))
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(1 / RATE)
            store.put(*fleet.change())
        server.should_exit = server.force_exit = True
        await serving
        await store.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait(30)
    try:
        yield config[0]
    finally:
        stop.set()
        thread.join(10)


async def _offers() -> Offers:
    return Offers([])


def measured(browser: Browser, servers: int) -> dict[str, float]:
    """What a fleet of that size costs the one who looks."""
    with console(Fleet(servers)) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.add_init_script(LONG)
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable")
        begun = time.monotonic()
        page.goto(url)
        page.wait_for_selector("main tbody tr", timeout=60_000)
        shown = time.monotonic() - begun
        found: dict[str, float] = {
            "servers": servers,
            "tasks": servers * MODELS,
            "bytes": page.evaluate(SENT),
            "paint_ms": page.evaluate(PAINT),
            "shown_ms": shown * 1000,
        }
        page.wait_for_timeout(2000)
        page.evaluate("window.long = []")
        for name in PAGES:
            script, busy = _looked(page, metrics, name)
            found[f"script_ms_{name or 'overview'}"] = script
            found["busy_ms"] = max(busy, found.get("busy_ms", 0.0))
        long = page.evaluate("window.long")
        found["long_tasks"], found["longest_ms"] = len(long), max(long, default=0)
        metrics.send("HeapProfiler.collectGarbage")
        found["memory_mb"] = _metric(metrics, "JSHeapUsedSize") / 1e6
        page.close()
        return found


def _looked(page: Page, metrics: CDPSession, name: str) -> tuple[float, float]:
    """Milliseconds for each change on one page: of script, and of all that the thread does."""
    page.evaluate("(name) => { location.hash = `#/${name}`; }", name)
    page.wait_for_timeout(1000)
    before = [_metric(metrics, one) for one in ("ScriptDuration", "TaskDuration")]
    page.wait_for_timeout(LOOK * 1000)
    after = [_metric(metrics, one) for one in ("ScriptDuration", "TaskDuration")]
    script, busy = ((a - b) * 1000 / (RATE * LOOK) for a, b in zip(after, before, strict=True))
    return script, busy


def _metric(metrics: CDPSession, name: str) -> float:
    told = metrics.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in told if one["name"] == name))


def main() -> None:
    """Measure, print a table, and fail where it is too much."""
    with chromium() as browser:
        rows = [measured(browser, size) for size in SIZES]
    heads = list(rows[0])
    print("  ".join(f"{head:>18}" for head in heads))
    for row in rows:
        cells = (_cell(row[head], rows[0][head]) for head in heads)
        print("  ".join(f"{cell:>18}" for cell in cells))
    RESULT.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        slow = max(value for key, value in row.items() if key.startswith("script_ms"))
        if row["bytes"] > MOST_BYTES or slow > MOST_MS:
            raise SystemExit(f"too much with {row['servers']:.0f} servers")


def _cell(value: float, first: float) -> str:
    told = f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"
    return told if not first or value == first else f"{told} (×{value / first:.1f})"


if __name__ == "__main__":
    main()
