"""Settings of the router: the fields of a Router's `spec`, from a file or from Kubernetes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ValidationError

from ollama_fleet.api import alias
from ollama_fleet.api.access import header_fault
from ollama_fleet.api.quantity import bytes_of, seconds_of
from ollama_fleet.api.router import Backend, RouterSpec
from ollama_fleet.kube.access import YAML_FAULTS
from ollama_fleet.router.aliases import aliases_of
from ollama_fleet.router.errors import Api
from ollama_fleet.router.options import LOADING, Policy
from ollama_fleet.router.settings import Settings
from ollama_fleet.router.snapshot import Endpoint, State

OLLAMA_PORT = 11434


class ConfigError(Exception):
    """A setting that cannot be used; the message is one line and names the field."""


def load(path: Path) -> Settings:
    """Read a file; raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    try:
        raw = yaml.safe_load(text)
    except YAML_FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: is not YAML{where}") from None
    try:
        return parse({} if raw is None else raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse(raw: object) -> Settings:
    """Settings from the fields of a Router's `spec`; a whole Router will do. Raises `ConfigError`.

    A field that does not exist is an error here: in a file nobody else would notice the typo.
    """
    if isinstance(raw, Mapping) and raw.get("kind") == "Router":
        raw = raw.get("spec") or {}
    if not isinstance(raw, Mapping):
        raise ConfigError("write the fields of a Router's spec, such as 'backends:'")
    for unknown in _unknown(raw, RouterSpec, ""):
        raise ConfigError(f"{unknown}: there is no such field{_instead(unknown)}")
    settings = settings_of(raw)
    for index, refs in enumerate(settings.backend_secrets):
        for name, field_name, remedy in (
            (refs.headers, "headersSecretRef", "write headers"),
            (refs.ca, "caSecretRef", "set SSL_CERT_FILE to the authority's certificate"),
        ):
            if name is not None:
                where = f"backends.{index}.{field_name}"
                raise ConfigError(f"{where}: a file has no Secrets beside it; {remedy}")
    for where, secret, remedy in (
        ("auth.keysSecretRef", settings.keys_secret, "start with --keys FILE"),
        ("tls.secretName", settings.tls_secret, "start with --tls-cert FILE --tls-key FILE"),
    ):
        if secret is not None:
            raise ConfigError(f"{where}: a file has no Secrets beside it; {remedy}")
    return settings


def settings_of(raw: Mapping[str, Any]) -> Settings:
    """Settings from a Router's `spec` as Kubernetes holds it; raises `ConfigError`."""
    try:
        spec = RouterSpec.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{_dotted(first['loc'])}: {message}") from None
    if (fault := alias.fault(spec.models)) is not None:
        raise ConfigError(fault)
    auth = spec.auth
    keys = auth.keys_secret_ref if auth else None
    return Settings(
        connect=seconds_of(spec.timeouts.connect),
        first_byte=seconds_of(spec.timeouts.first_byte),
        idle=seconds_of(spec.timeouts.idle),
        total=seconds_of(spec.timeouts.total),
        attempts=spec.retry.attempts,
        retry_on=frozenset(spec.retry.causes),
        interval=max(0.05, seconds_of(spec.health.interval)),
        probe_timeout=max(0.05, seconds_of(spec.health.timeout)),
        offline_after=seconds_of(spec.health.offline_after),
        failures=spec.health.breaker.failures,
        cooldown=seconds_of(spec.health.breaker.cooldown),
        max_cooldown=seconds_of(spec.health.breaker.max_cooldown),
        body_bytes=bytes_of(spec.limits.body_bytes),
        header_bytes=bytes_of(spec.limits.header_bytes),
        connections=spec.limits.connections,
        apis=frozenset(Api(name) for name in spec.apis),
        strategy=spec.strategy.type,
        aliases=aliases_of(spec.models),
        policy=Policy(spec.client_options.loading, spec.client_options.keep_alive),
        queue_size=spec.queue.size,
        queue_timeout=seconds_of(spec.queue.timeout),
        per_server=0 if spec.queue.per_server == "Auto" else int(spec.queue.per_server),
        access_log=spec.access_log,
        backends=_backends(spec.backends),
        backend_secrets=tuple(backend.secrets for backend in spec.backends),
        keys_secret=keys.name if keys else None,
        anonymous=auth.anonymous if auth else None,
        tls_secret=spec.tls.secret_name if spec.tls else None,
        fleet_api=spec.fleet_api,
        replicas=spec.replicas,
    )


def _backends(backends: list[Backend]) -> tuple[Endpoint, ...]:
    endpoints: dict[str, Endpoint] = {}
    for index, backend in enumerate(backends):
        where = f"backends.{index}"
        headers = headers_of(backend.headers, f"{where}.headers")
        endpoint = endpoint_of(
            backend.url,
            f"{where}.url",
            weight=backend.weight,
            parallel=backend.parallel,
            headers=headers,
        )
        if endpoint.name in endpoints:
            raise ConfigError(f"{where}.url: {endpoint.name} is listed twice")
        endpoints[endpoint.name] = endpoint
    return tuple(endpoints.values())


def endpoint_of(
    url: str,
    where: str,
    *,
    name: str = "",
    weight: int = 100,
    parallel: int = 1,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    held: State | None = None,
) -> Endpoint:
    """The server at `url`; raises `ConfigError` that names the field `where`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{where}: {url!r} is not a URL: write http://host:{OLLAMA_PORT}")
    if parts.query or parts.fragment or parts.username:
        raise ConfigError(f"{where}: write only scheme, host and port, as in http://{host}:11434")
    tls = parts.scheme == "https"
    port = port or (443 if tls else OLLAMA_PORT)
    return Endpoint(
        name=name or f"{host}:{port}",
        host=host,
        port=port,
        weight=weight,
        parallel=parallel,
        headers=headers,
        tls=tls,
        prefix=parts.path.rstrip("/"),
        held=held,
    )


def headers_of(headers: Mapping[str, str], where: str) -> tuple[tuple[bytes, bytes], ...]:
    """A server's own headers, checked; raises `ConfigError`. Values are never shown."""
    made = []
    for name, value in headers.items():
        if (fault := header_fault(name, value)) is not None:
            raise ConfigError(f"{where}: {fault}")
        made.append((name.lower().encode("ascii"), value.strip().encode("ascii")))
    return tuple(made)


def _unknown(raw: object, annotation: Any, path: str) -> Iterator[str]:
    """Dotted paths in `raw` that the model has no field for."""
    model = _model_in(annotation)
    if model is None:
        return
    if isinstance(raw, list):
        for index, item in enumerate(raw):
            yield from _unknown(item, model, f"{path}.{index}")
    elif isinstance(raw, Mapping):
        fields = {info.alias or name: info for name, info in model.model_fields.items()}
        for key, value in raw.items():
            below = f"{path}.{key}".lstrip(".")
            if key not in fields:
                yield below
            else:
                yield from _unknown(value, fields[key].annotation, below)


def _instead(path: str) -> str:
    """What to write where people will try what there is no field for."""
    within, _, name = path.rpartition(".")
    if not within.endswith(".defaults"):
        return ""
    if name in LOADING:
        return "; how models are loaded is the servers' affair (server of an OllamaNode)"
    return f"; not every API has its like: write {', '.join(alias.Defaults.model_fields)}"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, Union, UnionType) or hasattr(annotation, "__metadata__"):
        for argument in get_args(annotation):
            found = _model_in(argument)
            if found is not None:
                return found
    return None


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)
