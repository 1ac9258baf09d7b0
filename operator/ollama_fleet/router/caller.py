"""One connection to a server, for what is asked of it all the time."""

import aiohttp

from ollama_fleet.ollama.answers import TooMuch, whole
from ollama_fleet.ollama.session import reason_of, session
from ollama_fleet.router.snapshot import Endpoint

MAX_BYTES = 8 << 20
"""Of an answer."""


class ProbeError(Exception):
    """A server that did not answer as an Ollama does. `refused`: nobody listens there, or whoever
    does wants other headers."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def session_of(endpoint: Endpoint) -> aiohttp.ClientSession:
    """One connection at most, which shows the server what it asks for."""
    headers = [(name.decode(), value.decode()) for name, value in endpoint.headers]
    return session(headers, endpoint.trust() if endpoint.tls else None, connections=1)


async def answer_of(
    http: aiohttp.ClientSession, endpoint: Endpoint, path: str, seconds: float
) -> bytes:
    """What a path answers, if that is a 200 and takes no longer; raises `ProbeError`."""
    limit = aiohttp.ClientTimeout(total=seconds)
    try:
        async with http.get(endpoint.url + path, allow_redirects=False, timeout=limit) as answer:
            if answer.status != 200:
                refused = answer.status in (401, 403)
                raise ProbeError(f"GET {path} gave {answer.status}", refused=refused)
            return await whole(answer, MAX_BYTES)
    except aiohttp.ClientConnectorError as error:
        raise ProbeError(reason_of(error), refused=True) from None
    except TimeoutError:
        raise ProbeError("no answer in time") from None
    except (aiohttp.ClientError, TooMuch) as error:
        raise ProbeError(reason_of(error)) from None
