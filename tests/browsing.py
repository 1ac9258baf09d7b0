"""How tests look at the dashboard: what a browser complains of, and what axe finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

PAGES = ("", "models", "servers", "pulls", "routers", "events")
DESKTOP, PHONE = (1280, 860), (390, 844)
_AXE = Axe()


@contextmanager
def visit(
    browser: Browser, size: tuple[int, int] = DESKTOP, theme: str = "light", **more: Any
) -> Iterator[Page]:
    """A new person's page; whatever it complains of fails the test at the end."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", **more
    )
    context.set_default_timeout(10_000)
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # a refused call is shown on the page; that the browser notes it too is no fault of it
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    page = context.new_page()
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    assert complaints == []


def turn_to(page: Page, name: str) -> None:
    """Another page of the dashboard, by its link."""
    page.locator(f'#nav a[href="#/{name}"]').click()
    page.wait_for_selector(f'#nav a[href="#/{name}"][aria-current=page]')


def found_by_axe(page: Page) -> list[str]:
    """What is serious or critical, and where."""
    found = _AXE.run(page).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary')}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return found
