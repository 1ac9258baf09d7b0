"""What a correct proxy of LLMs does: twelve points, and where each is tested."""

import asyncio
import socket
import time
from importlib import import_module

import pytest

from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import (
    CHAT,
    STREAM_HEAD,
    Client,
    Exchange,
    chat,
    chunk,
    eventually,
    say,
)

POINTS = {
    "1. retried only before the first byte, and no load twice": [
        "test_failures.test_another_server_answers",
        "test_failures.test_a_stale_connection_is_no_failure",
        "test_failures.test_no_answer_in_time_is_not_asked_for_elsewhere",
        "test_failures.test_a_dead_server_under_streams_fails_only_what_had_begun",
        "test_wedges.test_a_request_moves_to_where_the_model_is_in_memory",
    ],
    "2. four time limits": [
        "test_semantics.test_connecting_has_a_limit_of_its_own",
        "test_failures.test_no_answer_in_time_is_not_asked_for_elsewhere",
        "test_failures.test_silence_within_an_answer_truncates_it",
        "test_semantics.test_a_whole_answer_has_a_limit_only_if_it_is_set",
    ],
    "3. a client that leaves stops the server": [
        "test_failures.test_a_client_that_leaves_stops_the_server",
    ],
    "4. a broken answer is truncated": [
        "test_failures.test_a_broken_answer_is_truncated",
        "test_failures.test_a_broken_answer_without_length_is_reset",
        "test_semantics.test_a_broken_answer_to_http_1_0_is_reset",
        "test_failures.test_a_malformed_chunk_ends_the_answer",
    ],
    "5. framing": [
        "test_framing_table.test_what_reaches_a_server",
        "test_framing_table.test_wherever_a_request_is_cut_the_same_reaches_a_server",
        "test_refused.test_malformed",
    ],
    "6. limits of size and time": [
        "test_refused.test_expect_is_answered_here",
        "test_refused.test_other_refusals",
        "test_refused.test_too_slow",
    ],
    "7. connections to servers": [
        "test_relay.test_connections_to_servers_are_reused",
        "test_semantics.test_the_connection_used_last_is_used_first",
        "test_semantics.test_idle_connections_expire",
        "test_failures.test_bytes_nobody_asked_for_are_nobodys_answer",
    ],
    "8. pipelining in order": [
        "test_relay.test_pipelined_requests_are_answered_in_order",
        "test_refused.test_an_offer_of_h2c_is_ignored",
    ],
    "9. backpressure": ["test_relay.test_a_slow_client_slows_the_server_and_loses_nothing"],
    "10. a gentle end": [
        "test_lifecycle.test_a_drain_lets_streams_finish",
        "test_lifecycle.test_a_drain_ends_at_its_deadline",
    ],
    "11. who fails fast attracts nothing": [
        "test_failures.test_a_dead_and_a_busy_server_fail_nobody_and_attract_nothing",
        "test_failures.test_a_server_that_refuses_at_once_attracts_little",
        "test_failures.test_a_model_that_failed_is_tried_by_one_request_at_a_time",
        "test_failures.test_another_server_answers_where_one_refuses_the_router",
    ],
    "12. unknown, and known but not ready": [
        "test_relay.test_an_unknown_model",
        "test_failures.test_a_server_comes_back_by_itself",
    ],
}


@pytest.mark.parametrize("point", POINTS)
def test_every_point_has_its_tests(point: str) -> None:
    for name in POINTS[point]:
        module, _, function = name.partition(".")
        assert callable(getattr(import_module(f"tests.component.router.{module}"), function))


async def test_connecting_has_a_limit_of_its_own(start: Start, serve: Serve) -> None:
    silent, good = await serve(resident=["m:latest"]), await serve(say(b"elsewhere"))
    router = await start(
        silent, good, health={"interval": "60s"}, timeouts={"connect": "200ms", "firstByte": "1m"}
    )
    await silent.stop()
    with socket.socket() as full:
        # a queue of connections that nobody takes: the next one is not even refused
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", silent.port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", silent.port))
        began = time.monotonic()
        assert (await chat(router.port)).body == b"elsewhere"
        assert 0.2 <= time.monotonic() - began < 5
        for one in waiting:
            one.close()


async def test_a_whole_answer_has_a_limit_only_if_it_is_set(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        while not exchange.writer.is_closing():
            await exchange.send(chunk(b"x"))
            await asyncio.sleep(0.05)

    backend = await serve(answer)
    limited = await start(backend, timeouts={"total": "500ms"})
    began = time.monotonic()
    reply = await chat(limited.port)
    assert (reply.status, reply.whole) == (200, False)
    assert 0.4 <= time.monotonic() - began < 5
    unlimited = await start(backend, timeouts={"idle": "500ms"})
    client = await Client.connect(unlimited.port)
    client.ask()
    await client.reader.readexactly(20 * len(chunk(b"x")))


async def test_a_broken_answer_to_http_1_0_is_reset(start: Start, serve: Serve) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + chunk(b"half"))
        await goes_on.wait()
        exchange.cut()

    goes_on = asyncio.Event()
    router = await start(await serve(answer), health={"interval": "60s"})
    client = await Client.connect(router.port)
    client.send(b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
    head = await client.reader.readuntil(b"half")
    # its end would be the connection's, and so a plain close would look like the whole
    assert b"chunked" not in head
    goes_on.set()
    with pytest.raises(ConnectionError):
        await client.reader.read()


async def test_the_connection_used_last_is_used_first(start: Start, serve: Serve) -> None:
    go = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await go.wait()
        await say(b"hello")(exchange)

    backend = await serve(answer, parallel=8)
    router = await start(backend, health={"interval": "60s"})
    first = [asyncio.create_task(chat(router.port)) for _ in range(3)]
    await eventually(lambda: backend.connections == 3)
    go.set()
    await asyncio.gather(*first)
    for _ in range(5):
        await chat(router.port)
    assert backend.connections == 3
    assert len({one.writer for one in backend.exchanges[3:]}) == 1


async def test_idle_connections_expire(start: Start, serve: Serve) -> None:
    backend = await serve()
    router = await start(backend, health={"interval": "60s"})
    for _ in range(2):
        await chat(router.port)
    assert backend.connections == 1
    # before a server would close them, which takes it a minute or more
    router.router.relay.expire(asyncio.get_running_loop().time() + 31)
    await chat(router.port)
    assert backend.connections == 2
