"""One download, before a registry whose every move is told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.api.names import ModelName
from ollama_fleet.mirror import download as module
from ollama_fleet.mirror.download import Download
from ollama_fleet.mirror.errors import (
    BadAnswerError,
    BeyondEndError,
    BusyError,
    DeniedError,
    MirrorError,
    UnavailableError,
)
from ollama_fleet.mirror.store import Store
from ollama_fleet.mirror.upstream import Body

CONTENT = bytes(range(100))
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = ModelName.parse("llama3.2:1b")


class FakeUpstream:
    """Sends what it is given, one chunk or failure after the other."""

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[bytes | MirrorError | None] = asyncio.Queue()
        self.asked: list[int] = []
        self.knows_ranges = True

    @asynccontextmanager
    async def blob(self, name: ModelName, digest: str, offset: int) -> AsyncIterator[Body]:
        assert (name, digest) == (NAME, DIGEST)
        self.asked.append(offset)
        if offset > len(CONTENT):
            raise BeyondEndError("no such byte")

        async def chunks() -> AsyncIterator[bytes]:
            while (chunk := await self.chunks.get()) is not None:
                if isinstance(chunk, MirrorError):
                    raise chunk
                yield chunk

        yield Body(len(CONTENT), offset if self.knows_ranges else 0, chunks())

    def send(self, *chunks: bytes | MirrorError | None) -> None:
        for chunk in chunks:
            self.chunks.put_nowait(chunk)


class Running:
    def __init__(self, directory: Path, upstream: FakeUpstream, places: int = 1) -> None:
        self.store = Store(directory, 1000)
        fake: Any = upstream
        self.download = Download(self.store, fake, NAME, DIGEST, len(CONTENT), lambda _: None)
        self.task = asyncio.create_task(self.download.run(asyncio.Semaphore(places)))


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> FakeUpstream:
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.0)
    return FakeUpstream()


async def test_the_last_byte_is_shown_when_all_are_verified(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    running = Running(tmp_path, upstream)
    upstream.send(CONTENT[:60])
    assert await running.download.begun() == 100
    assert await running.download.beyond(10) == 60
    upstream.send(CONTENT[60:])
    assert await running.download.beyond(70) == 99
    last = asyncio.create_task(running.download.beyond(99))
    upstream.send(None)
    assert await last == 100
    await running.task
    assert running.store.size(DIGEST) == 100


async def test_wrong_bytes_end_whoever_follows(tmp_path: Path, upstream: FakeUpstream) -> None:
    running = Running(tmp_path, upstream)
    upstream.send(CONTENT[:60])
    assert await running.download.beyond(10) == 60
    last = asyncio.create_task(running.download.beyond(99))
    upstream.send(b"x" * 40, None)
    with pytest.raises(BadAnswerError, match="thrown away"):
        await last
    with pytest.raises(BadAnswerError):
        await running.download.beyond(10)
    assert running.store.used == 0


async def test_it_goes_on_after_failures_that_pass(tmp_path: Path, upstream: FakeUpstream) -> None:
    running = Running(tmp_path, upstream)
    cut = UnavailableError("cut")
    upstream.send(CONTENT[:10], cut, cut, cut, cut, CONTENT[10:20], cut, CONTENT[20:], None)
    await running.task
    assert upstream.asked == [0, 10, 10, 10, 10, 20]
    assert running.store.size(DIGEST) == 100


@pytest.mark.parametrize(
    ("failures", "error"),
    [
        ([DeniedError("no")], DeniedError),
        ([BusyError("later", 300.0)], None),
        ([UnavailableError("away")] * module.ATTEMPTS, UnavailableError),
    ],
)
async def test_it_gives_up(
    tmp_path: Path,
    upstream: FakeUpstream,
    failures: list[MirrorError],
    error: type[MirrorError] | None,
) -> None:
    running = Running(tmp_path, upstream)
    upstream.send(CONTENT[:10])
    assert await running.download.beyond(5) == 10
    upstream.send(*failures)
    if error is None:  # a pause is waited for once there is something to wait for
        done, _ = await asyncio.wait([running.task], timeout=0.05)
        assert not done
        running.download.stop()
        await asyncio.gather(running.task, return_exceptions=True)
        return
    with pytest.raises(error):
        await asyncio.wait_for(running.download.beyond(50), 5)
    await running.task
    assert running.store.used == 10


async def test_a_registry_without_ranges_begins_anew(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.knows_ranges = False
    running = Running(tmp_path, upstream)
    upstream.send(CONTENT[:60], UnavailableError("cut"), CONTENT, None)
    await running.task
    assert upstream.asked == [0, 60]
    assert running.store.size(DIGEST) == 100


async def test_what_nobody_follows_is_stopped_and_kept(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    first = Running(tmp_path, upstream)
    first.download.follow()
    upstream.send(CONTENT[:60])
    assert await first.download.beyond(10) == 60
    first.download.leave()
    first.download.follow()
    done, _ = await asyncio.wait([first.task], timeout=0.05)
    assert not done
    first.download.leave()
    with pytest.raises(UnavailableError, match="nobody followed it"):
        await first.download.beyond(80)
    second = Running(tmp_path, upstream)
    upstream.send(CONTENT[60:], None)
    await second.task
    assert upstream.asked == [0, 60]


async def test_one_that_was_whole_already_is_not_asked_for(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / DIGEST.replace(":", "-")).write_bytes(CONTENT)
    running = Running(tmp_path, upstream)
    await running.task
    assert upstream.asked == []
    assert running.store.size(DIGEST) == 100


async def test_more_than_there_is_is_thrown_away(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / DIGEST.replace(":", "-")).write_bytes(CONTENT + b"x")
    first = Running(tmp_path, upstream)
    with pytest.raises(BeyondEndError):
        await first.download.begun()
    await first.task
    upstream.send(CONTENT, None)
    second = Running(tmp_path, upstream)
    await second.task
    assert upstream.asked == [101, 0]
    assert second.store.size(DIGEST) == 100


async def test_who_waits_for_a_place_knows_the_size(tmp_path: Path, upstream: FakeUpstream) -> None:
    running = Running(tmp_path, upstream, places=0)
    assert await running.download.begun() == 100
    running.download.stop()
    await asyncio.gather(running.task, return_exceptions=True)
