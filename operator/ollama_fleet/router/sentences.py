"""What clients are told where no server answers them."""

from ollama_fleet.router.choose import Decision
from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.settings import Settings


def none_left(decision: Decision, name: str, settings: Settings) -> Refusal:
    """No server may be asked for the model `name`, for the decision's reason."""
    count = decision.holders
    servers = "the server" if count == 1 else f"all {count} servers"
    verb = "is" if count == 1 else "are"
    who = f"{servers} with '{name}'"
    match decision.reason:
        case "AllFull":
            return Refusal(503, f"{who} {verb} busy", reason="Busy", retry_after=1)
        case "AllWedged":
            told = "does not answer" if count == 1 else "do not answer"
            sentence = f"{who} {told} with it any more and must be restarted"
            return Refusal(503, sentence, reason="Wedged", retry_after=30)
        case "AllFailing":
            wait = max(1, round(settings.cooldown))
            fails = "keeps failing" if count == 1 else "keep failing"
            sentence = f"{who} {fails}; try again in {wait} s"
            return Refusal(503, sentence, reason="Failing", retry_after=wait)
        case _:
            wait = max(1, round(settings.interval))
            sentence = f"{who} {verb} not ready; try again in {wait} s"
            return Refusal(503, sentence, reason="NotReady", retry_after=wait)


def unreachable(name: str, tried: int) -> Refusal:
    """None of the servers that were `tried` took the connection."""
    sentence = f"no server with '{name}' could be reached; tried {tried}"
    return Refusal(503, sentence, reason="Unreachable", retry_after=1)


def not_begun(name: str) -> Refusal:
    """The server was asked, and the time for a first byte is over."""
    sentence = f"the server did not begin to answer with '{name}' in time"
    return Refusal(504, sentence, reason="FirstByteTimeout")
