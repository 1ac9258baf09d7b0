# ruff: noqa: D102 -- Format describes the methods
"""The five shapes an answer comes in: two of Ollama's own, two of OpenAI's, one of Anthropic's."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Metrics:
    """A finished answer's figures; durations in nanoseconds, as on the wire."""

    total_duration: int
    load_duration: int
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int

    def as_json(self) -> dict[str, int]:
        """Without zeros, as Go leaves them out."""
        return {name: v for name in self.__slots__ if (v := getattr(self, name))}


class Format(Protocol):
    """One shape. `token` takes a token as JSON string, quotes included."""

    content_type: str

    def opening(self) -> list[bytes]:
        """What comes before the first token."""

    def token(self, token: bytes) -> bytes:
        """One token's chunk."""

    def closing(self, reason: str, metrics: Metrics) -> list[bytes]:
        """What comes after the last token."""

    def whole(self, text: str, reason: str, metrics: Metrics) -> Any:
        """An unstreamed answer."""


def now() -> bytes:
    """The time as Go writes it, in nanoseconds."""
    nanoseconds = time.time_ns()
    second = nanoseconds // 1_000_000_000
    if _second[0] != second:
        _second[:] = [second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()]
    return b"%b.%09dZ" % (_second[1], nanoseconds % 1_000_000_000)


_second: list[Any] = [0, b""]


class NativeChat:
    """/api/chat."""

    content_type = NDJSON

    def __init__(self, model: str) -> None:
        self._model = model
        self._head = b'{"model":%b,"created_at":"' % orjson.dumps(model)

    def opening(self) -> list[bytes]:
        return []

    def token(self, token: bytes) -> bytes:
        return b'%b%b","message":{"role":"assistant","content":%b},"done":false}\n' % (
            self._head,
            now(),
            token,
        )

    def closing(self, reason: str, metrics: Metrics) -> list[bytes]:
        return [orjson.dumps(self.whole("", reason, metrics)) + b"\n"]

    def whole(self, text: str, reason: str, metrics: Metrics) -> Any:
        return {
            "model": self._model,
            "created_at": now().decode(),
            "message": {"role": "assistant", "content": text},
            "done": True,
            "done_reason": reason,
            **metrics.as_json(),
        }


class NativeGenerate:
    """/api/generate. `context` is the tokens of prompt and answer, here only so many."""

    content_type = NDJSON

    def __init__(self, model: str) -> None:
        self._model = model
        self._head = b'{"model":%b,"created_at":"' % orjson.dumps(model)

    def opening(self) -> list[bytes]:
        return []

    def token(self, token: bytes) -> bytes:
        return b'%b%b","response":%b,"done":false}\n' % (self._head, now(), token)

    def closing(self, reason: str, metrics: Metrics) -> list[bytes]:
        return [orjson.dumps(self.whole("", reason, metrics)) + b"\n"]

    def whole(self, text: str, reason: str, metrics: Metrics) -> Any:
        return {
            "model": self._model,
            "created_at": now().decode(),
            "response": text,
            "done": True,
            "done_reason": reason,
            "context": list(range(1, metrics.prompt_eval_count + metrics.eval_count + 1)),
            **metrics.as_json(),
        }


class _OpenAI:
    content_type = SSE
    prefix: str
    chunk_object: str
    whole_object: str

    def __init__(self, model: str, include_usage: bool) -> None:
        self._id = f"{self.prefix}-{random.randrange(999)}"
        self._model = model
        self._include_usage = include_usage
        self._head = b"data: " + orjson.dumps(self._envelope(self.chunk_object))[:-1]

    def opening(self) -> list[bytes]:
        return []

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": int(time.time()),
            "model": self._model,
            "system_fingerprint": "fp_ollama",
        }

    def _usage(self, metrics: Metrics) -> dict[str, int]:
        return {
            "prompt_tokens": metrics.prompt_eval_count,
            "completion_tokens": metrics.eval_count,
            "total_tokens": metrics.prompt_eval_count + metrics.eval_count,
        }

    def _closing(self, choice: dict[str, Any], metrics: Metrics) -> list[bytes]:
        events: list[dict[str, Any]] = [
            {**self._envelope(self.chunk_object), "choices": [choice]},
        ]
        if self._include_usage:
            usage = {"choices": [], "usage": self._usage(metrics)}
            events.append({**self._envelope(self.chunk_object), **usage})
        lines = [b"data: %b\n\n" % orjson.dumps(event) for event in events]
        return [*lines, b"data: [DONE]\n\n"]


class OpenAIChat(_OpenAI):
    """/v1/chat/completions."""

    prefix = "chatcmpl"
    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def token(self, token: bytes) -> bytes:
        return (
            b'%b,"choices":[{"index":0,"delta":{"role":"assistant","content":%b},'
            b'"finish_reason":null}]}\n\n' % (self._head, token)
        )

    def closing(self, reason: str, metrics: Metrics) -> list[bytes]:
        delta = {"role": "assistant", "content": ""}
        return self._closing({"index": 0, "delta": delta, "finish_reason": reason}, metrics)

    def whole(self, text: str, reason: str, metrics: Metrics) -> Any:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = self._usage(metrics)
        return {**self._envelope(self.whole_object), "choices": [choice], "usage": usage}


class OpenAICompletion(_OpenAI):
    """/v1/completions."""

    prefix = "cmpl"
    chunk_object = "text_completion"
    whole_object = "text_completion"

    def token(self, token: bytes) -> bytes:
        return b'%b,"choices":[{"text":%b,"index":0,"finish_reason":null}]}\n\n' % (
            self._head,
            token,
        )

    def closing(self, reason: str, metrics: Metrics) -> list[bytes]:
        return self._closing({"text": "", "index": 0, "finish_reason": reason}, metrics)

    def whole(self, text: str, reason: str, metrics: Metrics) -> Any:
        choice = {"text": text, "index": 0, "finish_reason": reason}
        usage = self._usage(metrics)
        return {**self._envelope(self.whole_object), "choices": [choice], "usage": usage}


class AnthropicMessages:
    """/v1/messages."""

    content_type = SSE
    _REASONS = {"stop": "end_turn", "length": "max_tokens"}

    def __init__(self, model: str, estimated_tokens: int) -> None:
        self._id = f"msg_{secrets.token_hex(12)}"
        self._model = model
        self._estimated_tokens = estimated_tokens

    def opening(self) -> list[bytes]:
        message = {**self._message([]), "usage": self._usage(self._estimated_tokens, 0)}
        block = {"type": "text", "text": ""}
        return [
            _event("message_start", {"message": message}),
            _event("content_block_start", {"index": 0, "content_block": block}),
        ]

    def token(self, token: bytes) -> bytes:
        return (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":%b}}\n\n' % token
        )

    def closing(self, reason: str, metrics: Metrics) -> list[bytes]:
        usage = self._usage(metrics.prompt_eval_count, metrics.eval_count)
        delta = {"stop_reason": self._REASONS[reason]}
        return [
            _event("content_block_stop", {"index": 0}),
            _event("message_delta", {"delta": delta, "usage": usage}),
            _event("message_stop", {}),
        ]

    def whole(self, text: str, reason: str, metrics: Metrics) -> Any:
        return {
            **self._message([{"type": "text", "text": text}]),
            "stop_reason": self._REASONS[reason],
            "usage": self._usage(metrics.prompt_eval_count, metrics.eval_count),
        }

    def _message(self, content: list[Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
        }

    def _usage(self, input_tokens: int, output_tokens: int) -> dict[str, int]:
        return {"input_tokens": input_tokens, "output_tokens": output_tokens}


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **data}))
