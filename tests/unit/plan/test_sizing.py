"""Sizes against what Ollama and llama.cpp logged of real models, and what must always hold."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_fleet.api.modeldistribution import Sizing
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.plan.architecture import Architecture, architecture_of
from ollama_fleet.plan.servers import servers_of
from ollama_fleet.plan.sizing import GIB, CacheType, Load, Weights, cache, compute, fit, need
from tests.unit.plan.objects import NOW, Object, pod, resource

MIB = 2**20


def header(
    name: str, layers: int, embedding: int, heads: int, kv: int | list[int], **more: int
) -> dict[str, object]:
    """A GGUF header's values; ``more`` are keys of the architecture, dots written as __."""
    values: dict[str, object] = {
        "general.architecture": name,
        f"{name}.block_count": layers,
        f"{name}.embedding_length": embedding,
        f"{name}.attention.head_count": heads,
        f"{name}.attention.head_count_kv": kv,
    }
    for key, value in {"vocab_size": 32000, "context_length": 131072, **more}.items():
        values[f"{name}.{key.replace('__', '.')}"] = value
    return values


def lengths(length: int) -> dict[str, int]:
    return {"attention__key_length": length, "attention__value_length": length}


GPT_OSS = {"attention__sliding_window": 128, "vocab_size": 201088, **lengths(64)}
GEMMA3 = {"vocab_size": 262144, **lengths(256)}
MODELS = {
    "gpt-oss:120b": header("gptoss", 36, 2880, 64, 8, **GPT_OSS),
    "gpt-oss:20b": header("gptoss", 24, 2880, 64, 8, **GPT_OSS),
    "llama3.2:3b": header("llama", 28, 3072, 24, 8, vocab_size=128256, **lengths(128)),
    "llama3.2:1b": header("llama", 16, 2048, 32, 8, vocab_size=128256, **lengths(64)),
    "qwen3:4b": header("qwen3", 36, 2560, 32, 8, vocab_size=151936, **lengths(128)),
    "Mistral 7B": header("llama", 32, 4096, 32, 8, context_length=32768),
    "OLMoE 1B-7B": header("olmoe", 16, 2048, 16, 16, vocab_size=50304),
    "Nemotron Super 49B": header("deci", 80, 8192, 64, [8] * 49 + [0] * 31, vocab_size=128256),
    "gemma3:12b": header("gemma3", 48, 3840, 16, 8, attention__sliding_window=1024, **GEMMA3),
    "gemma3:270m": header("gemma3", 18, 640, 4, 1, attention__sliding_window=512, **GEMMA3),
}


@dataclass(frozen=True)
class Logged:
    """What a log says of one load, in MiB. ``batch`` is what it ran with, ``layers`` the sizes of
    the model's layers in the registry in GB."""

    source: str
    model: str
    context: int = 8192
    parallel: int = 1
    cache_type: CacheType = "f16"
    flash_attention: bool = True
    batch: int | None = None
    layers: float | None = None
    weights: float | None = None
    cache: float | None = None
    compute: float | None = None
    total: float | None = None

    @property
    def load(self) -> Load:
        return Load(self.context, self.parallel, self.cache_type, self.flash_attention)


OLLAMA = "https://github.com/ollama/ollama"
SNAPDRAGON = "https://github.com/ggml-org/llama.cpp/blob/master/docs/backend/snapdragon"
LOGS = [
    Logged(
        # of it 1104 MiB in the machine's own memory: the first table, which one GPU need not hold
        f"{OLLAMA}/issues/16416 (the command line is in issues/16480)",
        "gpt-oss:120b",
        context=131072,
        parallel=2,
        batch=1024,
        layers=65.37,
        weights=61223 + 1104,
        cache=9306,
        compute=796,
        total=61223 + 1104 + 9306 + 796,
    ),
    Logged(
        f"{OLLAMA}/issues/12752",
        "gpt-oss:120b",
        layers=65.37,
        weights=(36 * 1751096064 + 1158278400 + 1158266880) / MIB,
    ),
    Logged(
        f"{OLLAMA}/issues/11753",
        "gpt-oss:20b",
        layers=13.79,
        weights=(24 * 477075840 + 1158278400 + 1158266880) / MIB,
    ),
    Logged(
        f"{SNAPDRAGON}/developer.md",
        "gpt-oss:20b",
        cache_type="q8_0",
        batch=128,
        cache=102 + 3.19,
    ),
    Logged(f"{OLLAMA}/issues/8098", "llama3.2:3b", context=2048, parallel=4, cache=896),
    Logged(f"{SNAPDRAGON}/README.md", "llama3.2:1b", cache_type="q8_0", cache=136),
    Logged(f"{SNAPDRAGON}/README.md", "OLMoE 1B-7B", cache_type="q8_0", cache=544),
    Logged(f"{OLLAMA}/pull/16031", "qwen3:4b", layers=2.5, weights=974.88 + 1401.03),
    Logged(
        f"{OLLAMA}/pull/12000",
        "gemma3:12b",
        batch=512,
        layers=8.15,
        weights=6.8 * 1024 + 795.9,
        cache=992,
    ),
    Logged(
        # 1024 tokens for 3 and for 4 requests
        "https://github.com/unslothai/unsloth/pull/7530",
        "gemma3:270m",
        context=341,
        parallel=3,
        cache=27,
    ),
    Logged(
        "https://github.com/unslothai/unsloth/pull/7530",
        "gemma3:270m",
        context=256,
        parallel=4,
        cache=18,
    ),
    Logged(f"{OLLAMA}/issues/12403", "Nemotron Super 49B", context=20000, cache=3871),
    Logged(
        "https://github.com/fedora-copr/logdetective/pull/106",
        "Mistral 7B",
        context=2048,
        flash_attention=False,
        batch=512,
        cache=256,
        compute=164,
    ),
    Logged(
        "https://github.com/fedora-copr/logdetective/pull/106",
        "Mistral 7B",
        context=32768,
        flash_attention=False,
        batch=512,
        cache=4096,
        compute=2144,
    ),
]


def shape(model: str) -> Architecture:
    found = architecture_of(MODELS[model])
    assert found is not None
    return found


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log.model}-{log.context}-{log.source}")
def test_sizes_are_those_that_were_logged(log: Logged) -> None:
    model = shape(log.model)
    weights = Weights(round((log.layers or 0) * 1e9))
    if log.weights is not None:
        assert weights.total / MIB == pytest.approx(log.weights, rel=0.01)
    if log.cache is not None:
        assert cache(model, log.load, log.batch) / MIB == pytest.approx(log.cache, rel=0.01)
    if log.compute is not None:
        assert compute(model, log.load, log.batch) / MIB == pytest.approx(log.compute, rel=0.01)
    if log.total is not None:
        load = replace(log.load, gpus=0, margin=0)
        assert need(weights, model, load) / MIB == pytest.approx(log.total, rel=0.05)


shapes = st.builds(
    Architecture,
    name=st.just("llama"),
    row=st.integers(0, 2**20),
    windowed_row=st.integers(0, 2**20),
    window=st.integers(0, 2**16),
    heads=st.integers(1, 256),
    embedding=st.integers(1, 2**15),
    vocabulary=st.integers(1, 2**18),
    context=st.integers(256, 2**22),
    embeds=st.booleans(),
    sees=st.booleans(),
)
loads = st.builds(
    Load,
    context=st.integers(256, 2**22),
    parallel=st.integers(1, 256),
    cache_type=st.sampled_from(["f16", "q8_0", "q4_0"]),
    flash_attention=st.booleans(),
    gpus=st.integers(0, 8),
    margin=st.integers(0, 2**36),
)
weighing = st.builds(Weights, model=st.integers(0, 2**40), projector=st.integers(0, 2**32))
memories = st.one_of(st.none(), st.integers(1, 2**40))


@given(weighing, shapes, loads, memories, st.integers(0, 2**20), st.integers(0, 16))
def test_more_context_and_more_requests_never_need_less(
    weights: Weights,
    model: Architecture,
    load: Load,
    memory: int | None,
    context: int,
    parallel: int,
) -> None:
    least = fit(weights, model, load, memory).need
    assert least >= weights.total >= 0
    longer = replace(load, context=load.context + context)
    assert fit(weights, model, longer, memory).need >= least
    wider = replace(load, parallel=load.parallel + parallel)
    assert fit(weights, model, wider, memory).need >= least


@given(shapes.filter(lambda one: one.row > 0), loads)
def test_a_quantised_cache_is_smaller(model: Architecture, load: Load) -> None:
    sizes = [
        cache(model, replace(load, cache_type=kind, flash_attention=True))
        for kind in ("q4_0", "q8_0", "f16")
    ]
    assert 0 < sizes[0] < sizes[1] < sizes[2]


def test_the_verdict_says_what_is_needed_and_for_what() -> None:
    load = Load(parallel=2, cache_type="q8_0")
    found = fit(Weights(13_790_000_000), shape("gpt-oss:20b"), load, 15 * GIB)
    assert found.fits
    assert replace(found, has=found.need).fits
    assert not replace(found, has=found.need - 1).fits
    assert str(found) == "needs 14.9 GiB, has 15.0 GiB (context 8192 × 2, q8_0)"
    assert not replace(found, has=14 * GIB).fits
    assert str(replace(found, has=None)).endswith(", and what the server has is unknown")


def test_what_differs_is_never_told_alike() -> None:
    told = fit(Weights(13_790_000_000), shape("gpt-oss:20b"), Load(), None)
    close = replace(told, has=told.need - 2 * MIB)
    assert str(close) == "needs 15194 MiB, has 15191 MiB (context 8192 × 1, f16)"


def test_without_facts_the_size_is_all_there_is() -> None:
    found = fit(Weights(10 * GIB), None, Load(), 16 * GIB)
    assert (found.need, found.estimated) == (13 * GIB, True)
    assert str(found) == ("needs about 13.0 GiB, has 16.0 GiB (estimated from its size alone)")


def test_a_model_that_embeds_serves_one_request_at_a_time() -> None:
    model = replace(shape("qwen3:4b"), embeds=True)
    found = fit(Weights(GIB), model, Load(parallel=8), 8 * GIB)
    assert found == fit(Weights(GIB), model, Load(), 8 * GIB)
    assert "× 1" in str(found)


def test_no_request_has_more_context_than_the_model_knows() -> None:
    longer = fit(Weights(GIB), shape("Mistral 7B"), Load(context=262144), 80 * GIB)
    assert longer == fit(Weights(GIB), shape("Mistral 7B"), Load(context=32768), 80 * GIB)


def test_a_cache_is_quantised_with_flash_attention_only() -> None:
    load = Load(cache_type="q4_0", flash_attention=False)
    assert "f16" in str(fit(Weights(GIB), shape("qwen3:4b"), load, 8 * GIB))


def test_a_projector_needs_room_to_work() -> None:
    plain = need(Weights(GIB), shape("qwen3:4b"), Load())
    assert need(Weights(GIB, 0), replace(shape("qwen3:4b"), sees=True), Load()) == plain + GIB
    assert need(Weights(GIB - 7, 7), shape("qwen3:4b"), Load()) == plain + GIB


@pytest.mark.parametrize(("memory", "spread"), [(48, False), (32, True)])
def test_a_model_stays_on_one_gpu_that_it_does_not_fill(memory: int, spread: bool) -> None:
    weights, model, one = Weights(15 * GIB), shape("qwen3:4b"), Load(margin=GIB)
    two = replace(one, gpus=2)
    more = need(weights, model, two, memory * GIB) - need(weights, model, one, memory * GIB)
    assert more == (GIB + compute(model, one) if spread else 0)


def test_cuda_takes_its_part_of_every_margin() -> None:
    on_gpu = need(Weights(0), shape("qwen3:4b"), Load(margin=0))
    assert on_gpu - need(Weights(0), shape("qwen3:4b"), Load(margin=0, gpus=0)) == GIB // 2


def test_the_servers_own_settings_are_the_defaults() -> None:
    spec = OllamaNodeSpec.model_validate(
        {
            "replicas": 1,
            "gpu": {"count": 2},
            "server": {"parallel": 4, "contextLength": 16384, "kvCacheType": "q4_0"},
        }
    )
    load = Load.of(spec)
    assert load.sized(Sizing()) == Load(16384, 4, "q4_0", True, gpus=2)
    sizing = Sizing.model_validate({"contextLength": 4096, "parallel": 1, "headroom": "2Gi"})
    assert load.sized(sizing) == Load(4096, 1, "q4_0", True, gpus=2, margin=2 * GIB)
    cpu = OllamaNodeSpec.model_validate({"replicas": 1, "gpu": {"vendor": "none"}})
    assert Load.of(cpu).gpus == 0


@pytest.mark.parametrize("where", [{"replicas": 1}, {"external": {"url": "http://box:11434"}}])
def test_every_server_carries_the_settings_of_its_ollamanode(where: Object) -> None:
    given = {**where, "gpu": {"count": 2}, "server": {"contextLength": 4096}}
    spec = OllamaNodeSpec.model_validate(given)
    (found,) = servers_of(resource("OllamaNode", "a", given), spec, [pod("a-0")], {}, {}, NOW)
    assert found.load == Load(context=4096, gpus=2)


@pytest.mark.parametrize(
    ("change", "row", "windowed_row"),
    [
        ({}, 8 * 64 * 2 * 12, 8 * 64 * 2 * 12),
        # what no list or known pattern says is counted as seeing everything
        ({"general.architecture": "other"}, 8 * 64 * 2 * 24, 0),
        (
            {"gptoss.attention.sliding_window_pattern": [True] * 23 + [False]},
            8 * 64 * 2,
            8 * 64 * 2 * 23,
        ),
        ({"gptoss.attention.sliding_window_pattern": 4}, 8 * 64 * 2 * 6, 8 * 64 * 2 * 18),
        ({"gptoss.attention.shared_kv_layers": 4}, 8 * 64 * 2 * 10, 8 * 64 * 2 * 10),
        ({"gptoss.attention.sliding_window": 0}, 8 * 64 * 2 * 24, 0),
        ({"gptoss.full_attention_interval": 4}, 8 * 64 * 2 * 6, 0),
        ({"gptoss.attention.key_length_swa": 32}, 8 * 128 * 12, 8 * 96 * 12),
    ],
)
def test_which_layers_see_what(change: dict[str, object], row: int, windowed_row: int) -> None:
    values = {**MODELS["gpt-oss:20b"], **change}
    if "general.architecture" in change:
        values = {key.replace("gptoss.", "other."): value for key, value in values.items()}
    found = architecture_of(values)
    assert found is not None
    assert (found.row, found.windowed_row) == (row, windowed_row)


def test_head_lengths_and_kv_heads_may_be_left_out() -> None:
    values = header("llama", 2, 512, 8, 8)
    del values["llama.attention.head_count_kv"]
    found = architecture_of(values)
    assert found is not None
    assert found.row == 2 * 8 * (64 + 64)


@pytest.mark.parametrize(
    "change",
    [
        {"general.architecture": 7},
        {"llama.block_count": 0},
        {"llama.block_count": 2**40},
        {"llama.block_count": 5000},
        {"llama.embedding_length": -1},
        {"llama.vocab_size": True},
        {"llama.attention.head_count": "many"},
        {"llama.context_length": None},
    ],
)
def test_a_header_that_says_too_little_has_no_shape(change: dict[str, object]) -> None:
    assert architecture_of({**MODELS["llama3.2:3b"], **change}) is None


def test_what_a_server_shows_of_a_model_gives_the_shape_its_header_does() -> None:
    """Lists are left out there; the tokens are counted by their rows."""
    values = {**MODELS["llama3.2:3b"], "tokenizer.ggml.tokens": 128256}
    del values["llama.vocab_size"]
    shown = {**values, "tokenizer.ggml.tokens": None, "llama.rope.dimension_sections": None}
    assert architecture_of(shown, 128256) == architecture_of(values) is not None
    assert architecture_of(shown) is None
    # the header's own word goes before what is counted
    assert architecture_of(MODELS["llama3.2:3b"], 7) == architecture_of(MODELS["llama3.2:3b"])


@pytest.mark.parametrize("nothing", [None, []])
@pytest.mark.parametrize("key", ["head_count", "head_count_kv", "sliding_window_pattern"])
def test_where_what_each_layer_has_is_left_out_nothing_is_said(key: str, nothing: object) -> None:
    for model, name in (("llama3.2:3b", "llama"), ("gpt-oss:20b", "gptoss")):
        values = {**MODELS[model], f"{name}.attention.{key}": nothing}
        assert architecture_of(values) is None


def test_an_encoder_keeps_no_cache() -> None:
    found = architecture_of(header("nomic-bert", 12, 768, 12, 12))
    assert found is not None
    assert (found.row, found.embeds) == (0, True)
