"""Logs: one line each, for people on a terminal, JSON elsewhere."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["auto", "text", "json"]

_SECRET = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_LOUD = ("kopf", "aiohttp.access", "httpx2", "httpcore2", "asyncio", "kubernetes")


def set_up(style: LogFormat = "auto", level: str = "info", stream: TextIO = sys.stderr) -> None:
    """Send every log record to `stream`; third parties only from warnings on."""
    text = style == "text" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    handler.addFilter(_calm_kopf)


def _calm_kopf(record: logging.LogRecord) -> bool:
    """Drop what kopf says of each attempt at a request, and the tracebacks of its own frames.

    Signals it shall not see, so it need not warn of that either.

    The lease, the lists and the loop say once that the API server is away.
    """
    if not record.name.startswith("kopf._"):
        return True
    record.exc_info = None
    return record.module != "api" and "OS signals are ignored" not in record.getMessage()


class TextFormatter(logging.Formatter):
    """`09:15:02 warning  controllers.loop  message`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        source = record.name.removeprefix("ollama_fleet.")
        line = f"{time} {record.levelname.lower():<8} {source}  {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return _without_secrets(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _without_secrets(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = _without_secrets(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def _without_secrets(text: str) -> str:
    return _SECRET.sub(r"\1 [hidden]", text)
