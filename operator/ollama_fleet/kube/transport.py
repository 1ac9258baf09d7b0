"""Bytes to and from the API server, by the official client's configuration and HTTP layer."""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
import yaml

from ollama_fleet.kube.credentials import Credentials
from ollama_fleet.kube.errors import ConfigError, KubeError, Unavailable, error_for
from ollama_fleet.kube.official import (
    ConfigException,
    Configuration,
    RESTClientObject,
    load_incluster_config,
    load_kube_config,
)

CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 30.0
JSON = "application/json"
ANY = "application/json, */*"
"""What refuses may say so in JSON."""

Params = Mapping[str, str | int | bool | None]


class Transport:
    """One connection pool to one API server; credentials are read again when they expire."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._configuration = Configuration()
        self._rest: RESTClientObject | None = None
        self._reloading = asyncio.Lock()
        self._authorization: str | None = None
        """The only one to use, where it is somebody else's."""
        self._bare: RESTClientObject | None = None
        """Connections without a certificate of our own, for calls that others are to answer for."""

    @property
    def server(self) -> str:
        """The API server's address, for messages."""
        return str(self._configuration.host)

    async def open(self) -> None:
        """Find the API server and the credentials; ConfigError where there are none."""
        self._configuration = await _load(self._kubeconfig, self._context)
        try:
            self._rest = RESTClientObject(self._configuration)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(f"cannot use the certificates of the kubeconfig: {error}") from None

    async def acting(self, authorization: str) -> "Transport":
        """The same API server with somebody else's credentials and none of ours; it is closed with
        this one."""
        if self._bare is None:
            configuration = await _load(self._kubeconfig, self._context)
            configuration.cert_file = configuration.key_file = None
            self._bare = RESTClientObject(configuration)
        other = Transport()
        other._configuration = self._configuration
        other._rest = self._bare
        other._authorization = authorization
        return other

    async def credentials(self) -> Credentials:
        """What the configuration says now."""
        found = await _load(self._kubeconfig, self._context)
        return Credentials(
            found.host,
            await _authorization(found),
            found.ssl_ca_cert,
            found.cert_file,
            found.key_file,
            not found.verify_ssl,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._authorization is None:
            for rest in (self._rest, self._bare):
                if rest is not None:
                    await rest.close()
        self._rest = self._bare = None

    async def request(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: Any = None,
        content_type: str = JSON,
        timeout: float = REQUEST_TIMEOUT,
    ) -> dict[str, Any]:
        """The JSON answer to one request; a KubeError for anything else."""
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        response = await self._send(method, path, params, body, content_type, limits)
        try:
            return _parse(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        finally:
            response.release()

    async def text(self, path: str, params: Params, timeout: float) -> str:
        """An answer that is no JSON."""
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
        response = await self._send("GET", path, params, None, JSON, limits, ANY)
        try:
            return (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        finally:
            response.release()

    async def lines(self, path: str, params: Params) -> AsyncGenerator[str, None]:
        """An answer that is no JSON, line by line without the ends, however long it takes."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        response = await self._send("GET", path, params, None, JSON, limits, ANY)
        rest = b""
        try:
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace")
            if rest:
                yield rest.decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        finally:
            response.close()

    async def stream(
        self, path: str, params: Params, inactivity: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON lines of one answer, until it ends or is silent for `inactivity` seconds."""
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT, sock_read=inactivity
        )
        response = await self._send("GET", path, params, None, JSON, limits)
        rest = b""
        try:
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
                for line in lines:
                    if line:
                        yield _parse(line)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        finally:
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Any,
        content_type: str,
        limits: aiohttp.ClientTimeout,
        accept: str = JSON,
    ) -> aiohttp.ClientResponse:
        """An answer of status 2xx, its body still to be read."""
        token = self._authorization or await _authorization(self._configuration)
        response = await self._attempt(
            method, path, params, body, content_type, limits, token, accept
        )
        if response.status == 401 and self._authorization is None:
            response.release()
            await self._reload(token)
            token = await _authorization(self._configuration)
            response = await self._attempt(
                method, path, params, body, content_type, limits, token, accept
            )
        if response.status < 300:
            return response
        try:
            raise await _refusal(response)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        finally:
            response.release()

    async def _attempt(
        self,
        method: str,
        path: str,
        params: Params | None,
        body: Any,
        content_type: str,
        limits: aiohttp.ClientTimeout,
        token: str | None,
        accept: str,
    ) -> aiohttp.ClientResponse:
        if self._rest is None:
            raise KubeError(0, "Closed", "the connection to the API server is not open")
        query = urlencode({k: _text(v) for k, v in (params or {}).items() if v is not None})
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "ollama-fleet"}
        if token:
            headers["Authorization"] = token
        url = f"{self.server}{path}?{query}" if query else f"{self.server}{path}"
        try:
            answer = await self._rest.request(
                method, url, headers=headers, body=body, _request_timeout=limits
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _reload(self, refused: str | None) -> None:
        """Read the credentials again, unless another call has done so since `refused`."""
        async with self._reloading:
            if await _authorization(self._configuration) == refused:
                fresh = await _load(self._kubeconfig, self._context)
                self._configuration.api_key = fresh.api_key
                self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook

    def _unreachable(self, error: BaseException) -> Unavailable:
        what = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        what = what or type(error).__name__
        return Unavailable(0, "Unreachable", f"API server {self.server}: {what}")


async def _load(kubeconfig: str | None, context: str | None) -> Configuration:
    """Where the API server is, how to reach it, and the credentials."""
    configuration = Configuration()
    await _read(configuration, kubeconfig, context)
    configuration.proxy = configuration.proxy or _proxy(configuration.host)
    # or each request would look for a proxy, and for credentials in a netrc, in threads
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


async def _read(configuration: Configuration, kubeconfig: str | None, context: str | None) -> None:
    """KUBECONFIG first, then a pod's service account, then the home directory's file."""
    files = kubeconfig or os.environ.get("KUBECONFIG")
    home = str(Path.home() / ".kube" / "config")
    try:
        if not files and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(configuration)
            return
        if not files and not _exists(home):
            raise ConfigError(
                "no kubeconfig: set KUBECONFIG to one, or run inside Kubernetes "
                "with a service account"
            )
        files = files or home
        if not _exists(files):
            raise ConfigError(f"kubeconfig {files} does not exist: point KUBECONFIG at one")
        await load_kube_config(
            files, context=context, client_configuration=configuration, persist_config=False
        )
    except ConfigException as error:
        raise ConfigError(f"cannot use kubeconfig {files or ''}: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read kubeconfig {files}: {error.strerror}") from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(f"{files} is not a kubeconfig: it is no YAML of that form") from None


async def _authorization(configuration: Configuration) -> str | None:
    """The Authorization header's value; in a pod, its file is read every minute."""
    try:
        settings = await configuration.auth_settings()
    except (ConfigException, OSError) as error:
        raise ConfigError(f"cannot read the service account's token: {error}") from None
    bearer = settings.get("BearerToken")
    return str(bearer["value"]) if bearer and bearer["value"] else None


def _exists(files: str) -> bool:
    return any(Path(file).expanduser().exists() for file in files.split(os.pathsep) if file)


async def _refusal(response: aiohttp.ClientResponse) -> KubeError:
    text = await response.read()
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        body = {"message": text[:200].decode("utf-8", "replace").strip()}
    if response.status == 401:
        body["message"] = "the API server refused the credentials (401): renew those of KUBECONFIG"
    if response.status == 404 and not (body.get("details") or {}).get("name"):
        path = response.url.path
        body["message"] = f"the API server does not serve {path}: is its CRD installed?"
    after = response.headers.get("Retry-After", "")
    return error_for(response.status, body, float(after) if after.isdigit() else None)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unavailable(0, "Malformed", f"the API server sent broken JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unavailable(0, "Malformed", "the API server sent something other than an object")
    return value


def _text(value: str | int | bool | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
