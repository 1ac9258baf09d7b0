"""People who ask the fleet API."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml

from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import Fleet
from tests.cluster.waiting import eventually


class People:
    """Service accounts of a fleet's namespace, by the role they have there."""

    def __init__(self, fleet: Fleet, kubectl: Kubectl, folder: Path) -> None:
        self._tokens: dict[str, str | None] = {"nobody": None, "liar": "no.such.token"}
        for name in ("agent", "viewer", "editor", "stranger"):
            kubectl("create", "serviceaccount", name, "-n", fleet.namespace)
            if name != "stranger":
                account = f"--serviceaccount={fleet.namespace}:{name}"
                given = f"--clusterrole=ollama-fleet-{name}"
                kubectl("create", "rolebinding", name, given, account, "-n", fleet.namespace)
            config = fleet.cluster.token_kubeconfig(fleet.namespace, name, folder / name)
            (user,) = yaml.safe_load(config.read_text())["users"]
            self._tokens[name] = user["user"]["token"]

    def headers(self, name: str) -> dict[str, str]:
        """What a person's calls are made with."""
        token = self._tokens[name]
        return {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, name: str, url: str, call: str, body: Any) -> httpx2.Response:
        """What a person is answered."""
        method, path = call.split(" ")
        headers = self.headers(name)
        return httpx2.request(
            method, url + path, json=body, headers=headers, timeout=20, trust_env=False
        )


class Stream:
    """What somebody is sent of a namespace while they look: the latest by event and id."""

    def __init__(self, people: People, name: str, url: str, namespace: str) -> None:
        self._headers = people.headers(name)
        self._url = f"{url}/api/events?namespace={namespace}"
        self._namespace = namespace
        self._told: dict[tuple[str, str], Any] = {}
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._read())
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        self._loop.close()

    def has(self, event: str, name: str, **fields: Any) -> Any:
        """Wait until it was told of something with these fields, and return it."""
        key = event, f"{self._namespace}.{name}"

        def told() -> Any:
            found = self._told.get(key)
            return found if found and fields.items() <= found.items() else None

        return eventually(f"{event} {name} with {fields}", told, within=30)

    def all(self, event: str) -> list[Any]:
        """All that it was told of by these events."""
        return [told for (name, _), told in list(self._told.items()) if name == event]

    def _listen(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)

    async def _read(self) -> None:
        async with (
            httpx2.AsyncClient(headers=self._headers, timeout=None, trust_env=False) as http,
            http.stream("GET", self._url) as answer,
        ):
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data = json.loads(line.removeprefix("data: "))
                    self._told[event, data.get("id", "")] = data
