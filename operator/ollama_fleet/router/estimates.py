"""How long loads and answers take: learned from calls that are over, else told by size."""

import re
from collections.abc import Mapping
from typing import Final

from ollama_fleet.router.call import Call

LOAD_BYTES_PER_SECOND: Final = 1e9
LOAD_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0

_SHARE: Final = 0.2
_LEAST_PACE: Final = 0.2
_MOST_PACE: Final = 10.0
_FEW_TOKENS: Final = 8
_NO_LOAD: Final = 0.2
_LOAD_DURATION: Final = re.compile(rb'"load_duration": ?([0-9]{1,15})')


class Estimates:
    """Moving averages by model, in seconds on a server of the usual pace; and how long each server
    takes as a multiple of that, which is kept with its load."""

    __slots__ = ("_answers", "_loads", "_tokens")

    def __init__(
        self, loads: Mapping[str, float] | None = None, answers: Mapping[str, float] | None = None
    ) -> None:
        self._loads = dict(loads or {})
        self._answers = dict(answers or {})
        self._tokens: dict[str, float] = {}

    def load(self, model: str, size: int) -> float:
        """To load a model of `size` bytes: as seen, else 2 s and a second for each gigabyte."""
        return self._loads.get(model) or LOAD_SECONDS + size / LOAD_BYTES_PER_SECOND

    def answer(self, model: str) -> float:
        """For which one request keeps a slot of a loaded model."""
        return self._answers.get(model, ANSWER_SECONDS)

    def learn(self, call: Call) -> None:
        """Take over what a call that is over has shown."""
        if call.status != 200 or call.reason or call.route.shows:
            return
        load = call.server.load if call.server is not None else None
        pace = load.pace if load is not None else 1.0
        if call.loads:
            # Only Ollama's own API tells the load; a stream's first byte comes right after it.
            seconds = call.load_seconds or (call.began - call.asked if call.streamed else 0.0)
            if seconds > _NO_LOAD:
                if load is not None and call.model in self._loads:
                    load.pace = _paced(pace, seconds / self._loads[call.model])
                _average(self._loads, call.model, seconds / pace)
        elif call.streamed:
            seconds = call.ended - call.began
            _average(self._answers, call.model, seconds / pace)
            if load is not None and call.tokens_out is not None and call.tokens_out >= _FEW_TOKENS:
                # Answers differ in length, so what tells a slow server is the time per token.
                token = seconds / call.tokens_out
                usual = self._tokens.get(call.model)
                if usual:
                    load.pace = _paced(pace, token / usual)
                _average(self._tokens, call.model, token / pace)
        elif call.decision is not None and call.decision.reason != "Loading":
            _average(self._answers, call.model, (call.ended - call.asked) / pace)


def load_seconds_of(tail: bytes) -> float:
    """The seconds that the end of an answer says the load took; 0.0 where it does not say."""
    found = _LOAD_DURATION.findall(tail)
    return int(found[-1]) / 1e9 if found else 0.0


def _paced(pace: float, seen: float) -> float:
    return min(_MOST_PACE, max(_LEAST_PACE, pace + _SHARE * (seen - pace)))


def _average(averages: dict[str, float], model: str, value: float) -> None:
    before = averages.get(model)
    averages[model] = value if before is None else before + _SHARE * (value - before)
