import io
import json
import logging
from collections.abc import Iterator

import pytest

from ollama_fleet.controllers.logs import LogFormat, set_up


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(style: LogFormat) -> str:
    stream = io.StringIO()
    set_up(style, "info", stream)
    log = logging.getLogger("ollama_fleet.controllers.test")
    try:
        raise ValueError("Authorization: Bearer abcdef0123456789 was refused")
    except ValueError:
        log.exception("header %s", "Bearer abcdef0123456789")
    log.debug("unseen")
    logging.getLogger("kopf.objects").info("unseen")
    return stream.getvalue()


def test_json_is_one_object_a_line() -> None:
    (line,) = logged("json").splitlines()
    entry = json.loads(line)
    assert entry["level"] == "error"
    assert entry["logger"] == "ollama_fleet.controllers.test"
    assert entry["message"] == "header Bearer [hidden]"
    assert "ValueError" in entry["traceback"]


def test_text_reads_well() -> None:
    first, *rest = logged("text").splitlines()
    assert first.endswith("error    controllers.test  header Bearer [hidden]")
    assert rest[0].startswith("Traceback")


@pytest.mark.parametrize("style", ["auto", "json", "text"])
def test_tokens_are_never_logged(style: LogFormat) -> None:
    assert "abcdef0123456789" not in logged(style)


def test_kopf_says_a_failure_in_one_line() -> None:
    stream = io.StringIO()
    set_up("text", "info", stream)
    try:
        raise ConnectionError("gone")
    except ConnectionError:
        logging.getLogger("kopf._core.reactor.orchestration").exception("a watcher has failed")
    (line,) = stream.getvalue().splitlines()
    assert "a watcher has failed" in line
