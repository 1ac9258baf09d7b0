"""The machine's Chromium, driven by Playwright; none is ever downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


class NoBrowser(Exception):  # noqa: N818
    """There is none here; the message says what to do."""


def executable() -> str:
    """Where it is; raises `NoBrowser`."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise NoBrowser("no Chromium here: install it (apt-get install chromium)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running one without a window."""
    arguments = ["--disable-dev-shm-usage", "--enable-precise-memory-info"]
    if os.geteuid() == 0:
        # its sandbox needs a user of its own
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()
