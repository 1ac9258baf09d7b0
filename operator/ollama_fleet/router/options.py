"""Options in requests: what clients may set, and what is set for them."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ollama_fleet.router.errors import Refusal

LOADING: Final = frozenset(
    (
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "use_mmap",
        "num_thread",
        "use_imagegen_runner",
        # of older releases
        "embedding_only",
        "f16_kv",
        "logits_all",
        "low_vram",
        "num_gqa",
        "numa",
        "rope_frequency_base",
        "rope_frequency_scale",
        "use_mlock",
        "vocab_only",
    )
)
"""Options that belong to a loaded model: with other values, Ollama loads it anew."""

RENDER_ONLY: Final = "_debug_render_only"
WATCHED: Final = frozenset(("options", "keep_alive", RENDER_ONLY))

Fields = dict[str, Any]

_ZERO: Final = frozenset("+-0.hmsunµμ")
_OPENAI: Final = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "num_predict": ("max_tokens", "max_completion_tokens"),
    "seed": ("seed",),
    "stop": ("stop",),
}
_FORMS: Final[dict[bytes, Mapping[str, tuple[str, ...]]]] = {
    b"/v1/chat/completions": _OPENAI,
    b"/v1/completions": _OPENAI,
    b"/v1/responses": {
        "temperature": ("temperature",),
        "top_p": ("top_p",),
        "num_predict": ("max_output_tokens",),
    },
    b"/v1/messages": {
        "temperature": ("temperature",),
        "top_p": ("top_p",),
        "num_predict": ("max_tokens",),
        "stop": ("stop_sequences",),
    },
}
"""What each option is called where it is no member of `options`; the first name is written."""


class Policy(NamedTuple):
    """What becomes of what clients set: Strip, Refuse or Allow, as in `spec.clientOptions`."""

    loading: str = "Strip"
    keep_alive: str = "Strip"


def admitted(fields: Fields, policy: Policy) -> Fields:
    """The fields that may go to a server: the same object where nothing has to change.

    Raises `Refusal` (400).
    """
    if WATCHED.isdisjoint(fields):
        return fields
    out = set()
    if RENDER_ONLY in fields:
        out.add(RENDER_ONLY)
    if policy.keep_alive != "Allow" and fields.get("keep_alive") is not None:
        if policy.keep_alive == "Refuse":
            raise _refused("keep_alive is not for clients to set here: remove it")
        if _unloads(fields):
            raise _refused("models are unloaded by the fleet, not by clients: remove keep_alive")
        out.add("keep_alive")
    options = fields.get("options")
    loading: frozenset[str] = frozenset()
    if policy.loading != "Allow" and type(options) is dict:
        loading = LOADING.intersection(options)
        if loading and policy.loading == "Refuse":
            names = ", ".join(sorted(loading))
            raise _refused(f"options that load a model anew are not for clients here: {names}")
    if not out and not loading:
        return fields
    fields = {name: value for name, value in fields.items() if name not in out}
    if type(options) is dict and loading:
        fields["options"] = {name: options[name] for name in options if name not in loading}
    return fields


def with_defaults(fields: Fields, defaults: Mapping[str, Any], path: bytes) -> Fields:
    """The fields with each default that they do not set, as the API of `path` calls it."""
    if path in (b"/api/chat", b"/api/generate"):
        options = fields.get("options")
        if options is None:
            options = {}
        if type(options) is not dict:
            return fields
        added = {name: value for name, value in defaults.items() if options.get(name) is None}
        return {**fields, "options": {**options, **added}} if added else fields
    names = _FORMS.get(path, {})
    # keys count without regard to case; null sets nothing
    given = {name.casefold() for name, value in fields.items() if value is not None}
    added = {
        names[option][0]: value
        for option, value in defaults.items()
        if option in names and given.isdisjoint(names[option])
    }
    return {**fields, **added} if added else fields


def _unloads(fields: Fields) -> bool:
    """Whether Ollama takes it for the wish to unload the model, as `ollama stop` sends it."""
    if fields.get("prompt") or fields.get("messages") or fields.get("input"):
        return False
    wanted = fields["keep_alive"]
    return wanted == 0 or (type(wanted) is str and _ZERO.issuperset(wanted))


def _refused(sentence: str) -> Refusal:
    return Refusal(400, sentence, reason="Options")
