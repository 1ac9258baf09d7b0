"""One connection to a server, for what is asked of it all the time."""

from collections.abc import Mapping

import aiohttp

from ollama_fleet.ollama.answers import TooMuch, whole
from ollama_fleet.ollama.session import reason_of, session
from ollama_fleet.router.snapshot import Endpoint

MAX_BYTES = 8 << 20
"""Of an answer."""


class ProbeError(Exception):
    """A server that did not answer as an Ollama does. `refused`: nobody listens there, or whoever
    does wants other headers. `answered`: it gave another status than 200."""

    def __init__(self, message: str, *, refused: bool = False, answered: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.answered = answered


def session_of(endpoint: Endpoint) -> aiohttp.ClientSession:
    """One connection at most, which shows the server what it asks for."""
    headers = [(name.decode(), value.decode()) for name, value in endpoint.headers]
    return session(headers, endpoint.trust() if endpoint.tls else None, connections=1)


async def answer_of(
    http: aiohttp.ClientSession,
    endpoint: Endpoint,
    path: str,
    seconds: float | None,
    body: Mapping[str, object] | None = None,
) -> bytes:
    """What a path answers to GET, or to POST of a body, if that is a 200 and takes no longer;
    raises `ProbeError`."""
    method = "GET" if body is None else "POST"
    asking = http.request(
        method,
        endpoint.url + path,
        json=body,
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=seconds),
    )
    try:
        async with asking as answer:
            if answer.status != 200:
                refused = answer.status in (401, 403)
                told = f"{method} {path} gave {answer.status}"
                raise ProbeError(told, refused=refused, answered=True)
            return await whole(answer, MAX_BYTES)
    except aiohttp.ClientConnectorError as error:
        raise ProbeError(reason_of(error), refused=True) from None
    except TimeoutError:
        raise ProbeError("no answer in time") from None
    except (aiohttp.ClientError, TooMuch) as error:
        raise ProbeError(reason_of(error)) from None
