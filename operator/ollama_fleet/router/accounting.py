"""Counts kept while relaying: plain numbers, turned into metrics only when somebody asks."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from ollama_fleet.router.call import Call

# Cold loads take minutes: the buckets go to ten of them.
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.5, 1.0, 2.5)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)
TAIL_BYTES = 4096

_TAKEN = (b"prompt_eval_count", b"prompt_tokens", b"input_tokens")
_GIVEN = (b"eval_count", b"completion_tokens", b"output_tokens")
_COUNT = re.compile(rb'"(%s)": ?([0-9]{1,12})' % b"|".join(_TAKEN + _GIVEN))


class Histogram:
    """Counts per bucket, not yet summed up; the last one is for what is above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelCounts:
    """What one model's requests cost."""

    __slots__ = ("duration", "first_token", "input_tokens", "output_tokens", "per_token")

    def __init__(self) -> None:
        self.duration = Histogram(SECONDS)
        self.first_token = Histogram(SECONDS)
        self.per_token = Histogram(TOKEN_SECONDS)
        self.input_tokens = Histogram(TOKENS)
        self.output_tokens = Histogram(TOKENS)


class Accounting:
    """Everything counted since the start."""

    def __init__(self) -> None:
        self.models: dict[str, ModelCounts] = {}
        self.requests: Counter[tuple[bytes, int]] = Counter()
        self.retries: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.client_requests: Counter[tuple[str, int]] = Counter()
        self.client_tokens: Counter[tuple[str, str]] = Counter()

    def over(self, call: Call) -> None:
        """Count a call that is over."""
        if call.reason:
            self.rejected[call.reason] += 1
            return
        self.requests[call.route.path, call.status] += 1
        if call.status != 200 or call.route.shows:
            return
        counts = self.models.get(call.model)
        if counts is None:
            counts = self.models[call.model] = ModelCounts()
        seconds, first = call.ended - call.started, call.began - call.started
        counts.duration.observe(seconds)
        if call.tokens_in is not None:
            counts.input_tokens.observe(call.tokens_in)
        given = call.tokens_out
        if given is not None:
            counts.output_tokens.observe(given)
        if call.streamed:
            counts.first_token.observe(first)
            if given is not None and given > 1:
                counts.per_token.observe((seconds - first) / (given - 1))


def tail_of(pieces: Iterable[bytes]) -> bytes:
    """The end of an answer, where its usage stands."""
    return b"".join(pieces)[-TAIL_BYTES:]


def usage_of(tail: bytes) -> tuple[int | None, int | None]:
    """Tokens taken in and given out, as the three APIs tell them at the end of an answer.

    Inside a JSON string a quote is escaped, so generated text cannot be taken for a count.
    """
    counts = dict(_COUNT.findall(tail))
    if not counts:
        return None, None
    return _number(counts, _TAKEN), _number(counts, _GIVEN)


def _number(counts: dict[bytes, bytes], names: tuple[bytes, ...]) -> int | None:
    for name in names:
        if name in counts:
            return int(counts[name])
    return None
