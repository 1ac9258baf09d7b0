"""The APIs of OpenAI (/v1) and Anthropic (/v1/messages), translated to Ollama's own."""

from __future__ import annotations

import base64
import struct
from typing import Any

from dev.ollama.emulator.bodies import read_body
from dev.ollama.emulator.formats import AnthropicMessages, OpenAIChat, OpenAICompletion
from dev.ollama.emulator.generation import Refused, count_tokens
from dev.ollama.emulator.native import NativeApi, parse_name
from dev.ollama.emulator.server import Exchange
from dev.ollama.emulator.store import Store
from ollama_fleet.api.names import ModelName


class BadRequest(Refused):
    """A request that cannot be translated; only these are `invalid_request_error`."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class CompatibleApi:
    """The handlers of /v1."""

    def __init__(self, native: NativeApi, store: Store) -> None:
        self._native = native
        self._store = store

    async def chat(self, exchange: Exchange) -> None:
        """POST /v1/chat/completions."""
        body = _read(exchange, "openai.ChatCompletionRequest")
        if not body.get("messages"):
            raise BadRequest("[] is too short - 'messages'")
        request = {
            "model": body.get("model", ""),
            "messages": body["messages"],
            "stream": body.get("stream", False),
            "options": _options(body),
        }
        shape = OpenAIChat(request["model"], _include_usage(body))
        await self._native.chat_with(exchange, request, shape)

    async def completions(self, exchange: Exchange) -> None:
        """POST /v1/completions."""
        body = _read(exchange, "openai.CompletionRequest")
        request = {
            "model": body.get("model", ""),
            "prompt": body.get("prompt", ""),
            "stream": body.get("stream", False),
            "options": _options(body),
        }
        shape = OpenAICompletion(request["model"], _include_usage(body))
        await self._native.generate_with(exchange, request, shape)

    async def embeddings(self, exchange: Exchange) -> None:
        """POST /v1/embeddings."""
        body = _read(exchange, "openai.EmbedRequest")
        if not body.get("input"):
            raise BadRequest("invalid input")
        encoding = str(body.get("encoding_format") or "float").lower()
        if encoding not in ("float", "base64"):
            raise BadRequest(
                f"Invalid value for 'encoding_format' = {body['encoding_format']}. "
                "Supported values: ['float', 'base64']."
            )
        answer = await self._native.embeddings_of(body)
        data = [
            {"object": "embedding", "embedding": _encoded(vector, encoding), "index": index}
            for index, vector in enumerate(answer["embeddings"])
        ]
        tokens = answer["prompt_eval_count"]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        exchange.send_json(
            200, {"object": "list", "data": data, "model": body.get("model", ""), "usage": usage}
        )

    async def models(self, exchange: Exchange) -> None:
        """GET /v1/models."""
        models = [
            _model(model.name.canonical, model.name, model.modified_unix)
            for model in self._store.all()
        ]
        exchange.send_json(200, {"object": "list", "data": models or None})

    async def model(self, exchange: Exchange) -> None:
        """GET /v1/models/:model."""
        text = exchange.path.removeprefix("/v1/models/")
        name = parse_name(text, 500, f"unqualified name: {text}")
        model = self._store.get(name)
        if model is None:
            raise Refused(404, f"model '{text}' not found")
        exchange.send_json(200, _model(text, name, model.modified_unix))

    async def messages(self, exchange: Exchange) -> None:
        """POST /v1/messages."""
        body = _read(exchange, "anthropic.MessagesRequest")
        if not body.get("model"):
            raise BadRequest("model is required")
        if body.get("max_tokens", 0) <= 0:
            raise BadRequest("max_tokens is required and must be positive")
        if not body.get("messages"):
            raise BadRequest("messages is required")
        system = body.get("system")
        messages = [{"role": "system", "content": system}] if system else []
        request = {
            "model": body["model"],
            "messages": messages + body["messages"],
            "stream": body.get("stream", False),
            "options": {"num_predict": body["max_tokens"]},
        }
        estimate = sum(count_tokens(str(message)) for message in body["messages"])
        shape = AnthropicMessages(body["model"], estimate)
        await self._native.chat_with(exchange, request, shape)


def _read(exchange: Exchange, go_type: str) -> dict[str, Any]:
    try:
        return read_body(exchange.body, go_type, empty="EOF")
    except Refused as error:
        raise BadRequest(error.message) from None


def _options(body: dict[str, Any]) -> dict[str, Any]:
    return {"num_predict": body["max_tokens"]} if "max_tokens" in body else {}


def _include_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _model(shown: str, name: ModelName, created: int) -> dict[str, Any]:
    # Ollama takes the owner from the name as shown, so it is `library` for its own models.
    return {"id": shown, "object": "model", "created": created, "owned_by": name.namespace}
