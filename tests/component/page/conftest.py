"""A browser for each module, as no event loop runs beside it; a made-up fleet for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from dev.browser import chromium
from tests.browsing import visit
from tests.component.page.double import EDITOR, Double, fleet


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def double() -> Iterator[Double]:
    """With something of everything."""
    made = fleet()
    with made.served():
        yield made


@pytest.fixture
def page(browser: Browser, double: Double) -> Iterator[Page]:
    """Signed in as somebody who may do everything."""
    with visit(browser) as page:
        page.goto(f"{double.url}/#token={EDITOR}")
        page.wait_for_selector("#nav a[aria-current]")
        page.wait_for_selector("#who:not(:empty)")
        yield page
