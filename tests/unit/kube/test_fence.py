"""Writes that are not to be sent."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from ollama_fleet.kube import Kube, Object
from ollama_fleet.kube.errors import Fenced
from ollama_fleet.kube.kinds import CONFIG_MAP
from ollama_fleet.kube.transport import Transport
from tests.unit.kube.calls import WRITES


class Sent:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    async def request(self, method: str, *_: object, **__: object) -> Object:
        self.methods.append(method)
        return {"items": []}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_is_sent_only_while_it_may_be(
    write: Callable[[Kube], Awaitable[Any]],
) -> None:
    sent, may = Sent(), True
    kube = Kube(cast(Transport, sent)).fenced(lambda: may)
    await write(kube)
    assert len(sent.methods) == 1
    may = False
    with pytest.raises(Fenced, match="another operator may be leading"):
        await write(kube)
    assert len(sent.methods) == 1
    await kube.list(CONFIG_MAP, "llm")
    assert sent.methods[1:] == ["GET"]
