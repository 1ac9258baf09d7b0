"""What is asked: the same conversations, at the same moments, of every proxy."""

import random
from dataclasses import dataclass

CONVERSATIONS = 40
TURNS = 4
SECONDS = 14.0
"""In which the conversations begin."""
PAUSE = (0.3, 1.2)
"""Seconds between an answer and the next question."""

MODELS = {
    "llama3.2:3b": 7,
    "qwen3:4b": 4,
    "mistral:7b": 3,
    "llama3.1:8b": 3,
    "qwen3:8b": 2,
    "gemma3:4b": 2,
}
"""How often each is asked, one beside the other."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_FIRST_WORDS = 500


@dataclass(frozen=True)
class Conversation:
    """`begins` seconds after the start; `questions` with the pause before each."""

    begins: float
    model: str
    system: str
    questions: tuple[tuple[float, str], ...]


def conversations(seed: int = 1) -> list[Conversation]:
    """The trace, by when it begins. The first question brings a document of some pages along."""
    dice = random.Random(seed)
    names, weights = list(MODELS), list(MODELS.values())

    def words(count: int) -> str:
        return " ".join("".join(dice.choices(_LETTERS, k=5)) for _ in range(count))

    def conversation(begins: float) -> Conversation:
        (model,) = dice.choices(names, weights)
        first = (0.0, f"{dice.random()} {words(_FIRST_WORDS)}")
        more = tuple((dice.uniform(*PAUSE), words(12)) for _ in range(TURNS - 1))
        return Conversation(begins, model, f"You are {model}. {words(40)}", (first, *more))

    return [
        conversation(moment)
        for moment in sorted(dice.uniform(0, SECONDS) for _ in range(CONVERSATIONS))
    ]
