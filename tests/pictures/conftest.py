"""Where pictures go."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--into", type=Path, help="a folder for the pictures; without: none is kept")


@pytest.fixture
def into(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    given: Path | None = request.config.getoption("--into")
    return given or tmp_path
