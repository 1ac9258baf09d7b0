"""What drivers print, the kernel tells and a fleet API answers, whatever it is."""
# ruff: noqa: PT017 - what is hostile may also be read

import json
import struct
from unittest.mock import patch

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.agent import inflight
from ollama_fleet.agent.coordinator import Coordinator, CoordinatorError, Machine, Report
from ollama_fleet.agent.gpus import Gpu, Unreadable, mig, nvidia, registered, rocm
from tests.hostile import (
    answering,
    cut,
    deep,
    ends,
    hostile,
    in_json,
    mutated,
    numbers,
    places,
    shaped,
    texts,
    values,
)

SMI = b"NVIDIA A100, 81920, Disabled\nTesla T4, [N/A], Enabled\n"
XML = (
    b"<nvidia_smi_log><gpu><product_name>A</product_name><mig_mode><current_mig>Enabled"
    b"</current_mig></mig_mode><mig_devices><mig_device><fb_memory_usage><total>9 MiB</total>"
    b"</fb_memory_usage></mig_device></mig_devices></gpu></nvidia_smi_log>"
)
CARD = shaped({"Card Series": texts, "Card model": values, "VRAM Total Memory (B)": values})
CARDS = (
    st.dictionaries(st.sampled_from(("card0", "card1", "system")), CARD | values, max_size=3).map(
        in_json
    )
    | deep
    | mutated(b'WARNING: x\n{"card0": {"Card Series": "A", "VRAM Total Memory (B)": "17"}}')
)
LONG = st.sampled_from(("9" * 5000, "9" * 200_000, "\0", '"', "٣"))


def text(told: bytes) -> str:
    return told.decode(errors="replace")


printed = texts.map(lambda told: text(told.encode(errors="replace")))


def good(found: list[Gpu]) -> None:
    one = registered(found)
    assert (one is None) == (not found)
    if one is not None:
        assert 1 <= one.count <= len(found)
        assert 0 < len(one.model) <= 128
        json.dumps([one.model, one.memory, one.count])


@hostile
@given(
    mutated(SMI).map(text)
    | printed
    | st.builds("{}, {}, Enabled\n{}".format, LONG | printed, LONG, printed)
)
def test_nvidia_smi(told: str) -> None:
    try:
        found, _ = nvidia(told)
    except Unreadable as error:
        assert str(error)
    else:
        good(found)


@hostile
@given(mutated(XML).map(text) | LONG.map(lambda number: text(XML).replace("9", number)) | printed)
def test_nvidia_smi_about_divided_gpus(told: str) -> None:
    try:
        good(mig(told))
    except Unreadable as error:
        assert str(error)


@hostile
@given(CARDS.map(text))
def test_rocm_smi(told: str) -> None:
    try:
        good(rocm(told))
    except Unreadable as error:
        assert str(error)


KERNEL = struct.pack("=IHHII", 72 + 16 + 4 + 140, 20, 2, 1, 0) + bytes(range(72)) + bytes(144)


@hostile
@given(mutated(KERNEL) | st.binary(max_size=200), st.sampled_from((0, 1285, 11434)))
def test_the_kernel(answer: bytes, port: int) -> None:
    try:
        found = dict(inflight.read(answer, port))
        inflight.ended(answer)
    except (OSError, struct.error):
        return
    assert isinstance(sum(one.answering for one in found.values()), int)


ANSWERS = (
    shaped({"agent_id": texts | numbers, "error": texts | values}).map(in_json)
    | deep
    | st.binary(max_size=60)
    | mutated(b'{"agent_id": "a1"}')
)


@hostile
@given(
    ANSWERS,
    st.sampled_from((200, 201, 204, 302, 401, 404, 422, 500)),
    places,
    st.sampled_from(("", "//", "https://[", "\x7f")),
)
def test_a_fleet_api(told: bytes, status: int, where: list[float], to: str) -> None:
    client = httpx2.AsyncClient
    transport = answering(status, cut(told, where), [("Location", to)])

    async def asked() -> None:
        there = Coordinator("https://fleet.lan")
        try:
            assert await there.register(Machine("box", "10.0.0.1", "0.17.4", 11434))
        except CoordinatorError as error:
            assert str(error).isprintable()
        try:
            await there.report("a1", Report(1.0, 2.0, 3, 4.0, "running"))
        except CoordinatorError as error:
            assert str(error).isprintable()

    def mocked(**given: object) -> httpx2.AsyncClient:
        return client(**{**given, "transport": transport})  # type: ignore[arg-type]

    with patch("ollama_fleet.agent.coordinator.httpx2.AsyncClient", mocked):
        ends(asked)
