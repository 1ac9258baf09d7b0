"""The fleet API, as an agent calls it. Nothing of httpx2 leaves this module."""

import asyncio
import ssl
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2

from ollama_fleet.agent.gpus import Gpus
from ollama_fleet.api.tls import trust
from ollama_fleet.ollama.answers import PLAIN, TooMuch, value_of, whole

_CONNECT, _ANSWER = 10.0, 30.0
_LONGEST_TOKEN = 8192
_LONGEST_ANSWER = 256 << 10


@dataclass(frozen=True, slots=True)
class Machine:
    """What is registered."""

    machine_name: str
    ip_address: str
    ollama_version: str
    ollama_port: int
    gpus: Gpus | None = None

    def body(self) -> dict[str, Any]:
        """As the call has it: what is not known is left out."""
        told = {name: value for name, value in asdict(self).items() if name != "gpus"}
        if self.gpus is not None:
            told |= {"gpu_model": self.gpus.model, "gpu_count": self.gpus.count}
            if self.gpus.memory is not None:
                told["gpu_memory_bytes"] = self.gpus.memory
        return told


@dataclass(frozen=True, slots=True)
class Report:
    """How a machine does: usage in percent. The last two are more than every fleet API knows, and
    those that do not know them leave them alone."""

    cpu_usage: float
    memory_usage: float
    active_requests: int
    disk_usage: float
    ollama_status: str


class CoordinatorError(Exception):
    """A call came to nothing; why, in a sentence without the token."""


class UnknownAgent(CoordinatorError):  # noqa: N818
    """The fleet does not know the machine (any more): it registers again."""


class Coordinator:
    """Calls to the fleet API at a URL. Token and authority are read for each, as both are renewed
    now and then."""

    def __init__(self, url: str, token_file: Path | None = None, ca_file: Path | None = None):
        self._url = url
        self._token_file = token_file
        self._ca_file = ca_file

    def check(self) -> None:
        """Raises `CoordinatorError` where one of the files is of no use."""
        self._token()
        self._trust()

    async def register(self, machine: Machine) -> str:
        """The agent's id; raises `CoordinatorError`."""
        path = "/api/agents"
        answer = await self._post(path, machine.body(), (200, 201))
        try:
            agent_id = value_of(answer)["agent_id"]
        except (ValueError, KeyError, TypeError):
            agent_id = None
        if not isinstance(agent_id, str) or not agent_id:
            raise CoordinatorError(
                f"{self._url}{path} answers without an agent_id: is COORDINATOR_URL a fleet API?"
            )
        return agent_id

    async def report(self, agent_id: str, report: Report) -> None:
        """Raises `UnknownAgent`, `CoordinatorError`."""
        await self._post("/api/health", {"agent_id": agent_id, **asdict(report)}, (200, 204))

    async def _post(self, path: str, body: dict[str, Any], good: tuple[int, ...]) -> bytes:
        url = self._url + path
        token = self._token()
        headers = {**PLAIN, **({"Authorization": f"Bearer {token}"} if token else {})}
        timeout = httpx2.Timeout(_CONNECT)
        try:
            async with (
                asyncio.timeout(_ANSWER),
                httpx2.AsyncClient(
                    headers=headers, verify=self._trust(), timeout=timeout, trust_env=False
                ) as client,
                client.stream("POST", url, json=body) as response,
            ):
                content = await whole(response, _LONGEST_ANSWER)
        except (TimeoutError, httpx2.TimeoutException):
            raise CoordinatorError(f"{url} did not answer in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, TooMuch) as error:
            reason = str(error) or type(error).__name__
            raise CoordinatorError(f"{url} cannot be reached: {_hidden(reason, token)}") from None
        if response.status_code in good:
            return content
        told = _told(response, content, token)
        kind = CoordinatorError
        if response.status_code == httpx2.codes.NOT_FOUND and path == "/api/health":
            kind = UnknownAgent
        raise kind(f"{url} answers {response.status_code}{told}")

    def _token(self) -> str:
        if self._token_file is None:
            return ""
        token = _text(self._token_file).strip()
        if not token or len(token) > _LONGEST_TOKEN or not all("!" <= one <= "~" for one in token):
            raise CoordinatorError(f"{self._token_file} holds no token: one line of ASCII")
        return token

    def _trust(self) -> ssl.SSLContext | bool:
        if self._ca_file is None:
            return True if self._url.startswith("https:") else False  # noqa: SIM210
        try:
            return trust(_text(self._ca_file))
        except (ssl.SSLError, ValueError):
            raise CoordinatorError(f"{self._ca_file} holds no certificate in PEM") from None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise CoordinatorError(f"{path} is no text") from None
    except OSError as error:
        raise CoordinatorError(f"{path} cannot be read: {error.strerror}") from None


def _told(response: httpx2.Response, content: bytes, token: str) -> str:
    """What an answer says of why, as one line."""
    if response.is_redirect:
        place = _hidden(response.headers.get("location", ""), token)
        return f" and points to {place}: set COORDINATOR_URL to where the fleet API is"
    try:
        said = value_of(content)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    more = ""
    if response.status_code == httpx2.codes.UNAUTHORIZED:
        more = " (COORDINATOR_TOKEN_FILE names the file with the token)"
    return f": {_hidden(str(said), token)}{more}"


def _hidden(text: str, token: str) -> str:
    if token:
        text = text.replace(token, "[hidden]")
    return "".join(one if one.isprintable() else " " for one in text)[:300]
