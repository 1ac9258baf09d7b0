"""The fleet API over HTTP."""

import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ollama_fleet.api.names import DEFAULT_HOST, ModelName
from ollama_fleet.console import calls, dashboard, resources, tasks, wire
from ollama_fleet.console.agents import Server, servers_of
from ollama_fleet.console.asked import body_of, choice_of, count_of, from_here, text_of, unambiguous
from ollama_fleet.console.calls import CALLS, Call
from ollama_fleet.console.fleet import Settings, View
from ollama_fleet.console.identity import Identity
from ollama_fleet.console.installed import gigabytes, models_of
from ollama_fleet.console.metrics import Metrics
from ollama_fleet.console.models import Known, Models
from ollama_fleet.console.offers import Offers
from ollama_fleet.console.openapi import document
from ollama_fleet.console.orders import Orders
from ollama_fleet.console.patience import Places
from ollama_fleet.console.recent import Recent
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.store import Store
from ollama_fleet.console.stream import Stream
from ollama_fleet.console.traffic import Traffic
from ollama_fleet.console.verdicts import verdict
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE
from ollama_fleet.plan.sizing import CacheType

log = logging.getLogger(__name__)

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer but the page: nothing of it is kept, or is for other sites."""
PUBLIC = frozenset((DEFAULT_HOST, "hf.co"))
"""Registries that everybody who may look may have asked."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Parts:
    """What the API is made of."""

    store: Store
    identity: Identity
    models: Models
    offers: Callable[[], Awaitable[Offers]]
    settings: Settings
    clock: Callable[[], datetime]
    metrics: Metrics
    traffic: Traffic
    recent: Recent


class Api:
    """The calls; each takes a request and the fleet as whoever asks sees it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._orders = Orders(parts.store, parts.identity, parts.clock)
        self._places = Places()

    def routes(self) -> Starlette:
        """What uvicorn serves."""
        text = json.dumps(document(), separators=(",", ":")).encode()

        async def described(_: Request) -> Response:
            return Response(text, headers=HEADERS, media_type="application/json")

        app = Starlette(
            routes=[
                *(Route(one.path, self._answering(one), methods=[one.method]) for one in CALLS),
                *dashboard.routes(),
                Route("/openapi.json", described),
                Route("/healthz", self._alive),
                Route("/readyz", self._ready),
                Route("/metrics", self._scrape),
            ],
            exception_handlers={HTTPException: _nothing, Exception: _broken},
        )
        app.router.redirect_slashes = False
        return app

    def _answering(self, call: Call) -> Callable[[Request], Awaitable[Response]]:
        """A call with who asks found out, its refusals told, and all of it counted."""
        handler = cast(Callable[[Request, View], Awaitable[Response]], getattr(self, call.handler))
        metrics = self._parts.metrics

        async def answer(request: Request) -> Response:
            begun = time.monotonic()
            try:
                unambiguous(request)
                if call.method != "GET":
                    from_here(request)
                response = await handler(request, await self._view(request))
            except Refusal as refusal:
                if refusal.status >= 500:
                    log.info("%s %r: %s", call.method, request.url.path, refusal)
                response = JSONResponse(refusal.body, refusal.status, refusal.headers)
            response.headers.update(HEADERS)
            metrics.requests.labels(call.handler, response.status_code).inc()
            metrics.seconds.labels(call.handler).observe(time.monotonic() - begun)
            return response

        return answer

    async def _view(self, request: Request) -> View:
        parts = self._parts
        person = await parts.identity.person(request.headers.get("authorization"))
        if not parts.store.synced:
            raise Refusal(
                503,
                "the fleet has not been seen yet; try again in a few seconds",
                headers={"Retry-After": "2"},
            )
        return View(parts.store, parts.identity, person, parts.settings, parts.clock)

    # agents

    async def register(self, request: Request, view: View) -> Response:
        """POST /api/agents."""
        asked = await body_of(request, wire.Registration)
        namespace = _namespace(request) or self._parts.settings.namespace
        agent_id, new = await self._orders.register(view, asked, namespace)
        return _json(wire.Registered(agent_id=agent_id), 201 if new else 200)

    async def agents(self, request: Request, view: View) -> Response:
        """GET /api/agents."""
        return _json(await view.agents(_namespace(request)))

    async def agent(self, request: Request, view: View) -> Response:
        """GET /api/agents/{id}."""
        return _json(view.shown(await view.server(request.path_params["id"])))

    async def remove(self, request: Request, view: View) -> Response:
        """DELETE /api/agents/{id}."""
        await self._orders.remove(view, await view.server(request.path_params["id"]))
        return Response(status_code=204)

    async def health(self, request: Request, view: View) -> Response:
        """POST /api/health."""
        await self._orders.report(view, await body_of(request, wire.Health))
        return Response(status_code=204)

    async def models(self, request: Request, view: View) -> Response:
        """GET /api/agents/{id}/models."""
        server = await view.server(request.path_params["id"])
        external = server.spec.external
        known = await view.tasks(server.namespace) if external and external.secrets.names else []
        return _json(await models_of(server, view.shown(server), known))

    # models

    async def available(self, request: Request, view: View) -> Response:
        """GET /api/models/available."""
        found = await self._parts.offers()
        told = wire.Offered(
            models=[
                wire.OfferedModel(
                    name=one.name,
                    display_name=one.display_name,
                    size_gb=gigabytes(one.size),
                    description=one.description,
                )
                for one in found.models
            ],
            source=found.source,
            problem=found.problem if not view.person.anonymous else None,
        )
        return JSONResponse(told.model_dump(exclude_none=True))

    async def pull(self, request: Request, view: View) -> Response:
        """POST /api/agents/{id}/models/pull."""
        asked = await body_of(request, wire.Pull)
        model = tasks.model_name(asked.model_name)
        server = await view.server(request.path_params["id"])
        (task,) = await self._install(view, model, [server])
        return _json(wire.PullStarted(task_id=task), 202)

    async def distribute(self, request: Request, view: View) -> Response:
        """POST /api/models/distribute."""
        asked = await body_of(request, wire.Distribute)
        model = tasks.model_name(asked.model_name)
        namespace = _namespace(request)
        if asked.target == "specific":
            if not asked.agent_ids:
                raise Refusal(400, "target specific needs agent_ids: name at least one agent")
            ids = dict.fromkeys(asked.agent_ids)
            started = await self._install(view, model, [await view.server(one) for one in ids])
        else:
            if asked.agent_ids:
                raise Refusal(400, "target all takes no agent_ids: remove them, or write specific")
            started = await self._install_everywhere(view, model, namespace)
        return _json(wire.DistributionStarted(task_ids=started), 202)

    async def _install(self, view: View, model: str, servers: Sequence[Server]) -> list[str]:
        wanted = _by_namespace(servers)
        await self._orders.allowed(view, list(wanted))
        return await self._orders.install(view, model, await self._known(model), wanted)

    async def _install_everywhere(self, view: View, model: str, namespace: str | None) -> list[str]:
        nodes = await view.nodes(namespace)
        wanted = _by_namespace([one for node in nodes for one in servers_of(node)])
        if not wanted:
            raise Refusal(404, "there is no agent to distribute to")
        await self._orders.allowed(view, list(wanted))
        known = await self._known(model)
        return await self._orders.install_everywhere(view, model, known, wanted)

    async def _known(self, model: str) -> Known | None:
        return await self._parts.models.of(model, (await self._parts.offers()).models)

    async def fit(self, request: Request, view: View) -> Response:
        """GET /api/fit."""
        asked = text_of(request, "model")
        if asked is None:
            raise Refusal(400, "model is missing: write /api/fit?model=llama3.1:8b")
        model = tasks.model_name(asked)
        context, parallel = count_of(request, calls.CONTEXT), count_of(request, calls.PARALLEL)
        kept = choice_of(request, "kv_cache_type", ("f16", "q8_0", "q4_0"))
        nodes = await view.nodes(_namespace(request))
        host = ModelName.parse(model).host
        if host.lower() not in PUBLIC:
            # the console would ask for whoever looks whatever host there is
            here = self._parts.settings.namespace
            await self._parts.identity.require(view.person, "create", MODEL_DISTRIBUTION, here)
        known = await self._known(model)
        if known is None:
            raise Refusal(503, f"{host} cannot be asked now what {model} needs", headers=_LATER)
        told = []
        for server in (one for node in nodes for one in servers_of(node)):
            there, complete = await view.known_models(server)
            shown = view.shown(server)
            told.append(
                verdict(
                    server, shown, known, there, complete, context, parallel, cast(CacheType, kept)
                )
            )
        size = gigabytes(known.size)
        return _json(wire.Fits(model=model, size_gb=size, source=known.source, verdicts=told))

    # tasks

    async def tasks(self, request: Request, view: View) -> Response:
        """GET /api/tasks."""
        status = choice_of(request, "status", ("pending", "downloading", "completed", "failed"))
        agent_id, model = text_of(request, "agent_id"), text_of(request, "model_name")
        name = tasks.model_name(model) if model is not None else None
        offset, limit = count_of(request, calls.OFFSET) or 0, count_of(request, calls.LIMIT) or 100
        found = [
            one
            for one in await view.tasks(_namespace(request))
            if status in (None, one.status)
            and agent_id in (None, one.agent_id)
            and name in (None, one.model_name)
        ]
        page = [tasks.wire(one) for one in found[offset : offset + limit]]
        told = {"tasks": page, "total": len(found), "offset": offset, "limit": limit}
        return JSONResponse(told)

    async def task(self, request: Request, view: View) -> Response:
        """GET /api/tasks/{id}."""
        return JSONResponse(tasks.wire(await view.task(request.path_params["id"])))

    async def retry(self, request: Request, view: View) -> Response:
        """POST /api/tasks/{id}/retry."""
        task = await view.task(request.path_params["id"])
        found = await view.resource(MODEL_DISTRIBUTION, f"{task.namespace}.{task.distribution}")
        return JSONResponse(tasks.wire(await self._orders.retry(view, found, task)), 202)

    # people and resources

    async def me(self, _: Request, view: View) -> Response:
        """GET /api/me."""
        return _json(await view.me())

    async def nodes(self, request: Request, view: View) -> Response:
        """GET /api/nodes."""
        return _json([resources.node(one) for one in await view.nodes(_namespace(request))])

    async def cordon(self, request: Request, view: View) -> Response:
        """PATCH /api/nodes/{id}."""
        asked = await body_of(request, wire.Cordon)
        found = await view.resource(OLLAMA_NODE, request.path_params["id"])
        change = {"spec": {"cordoned": asked.cordoned}}
        return _json(resources.node(await self._orders.change(view, OLLAMA_NODE, found, change)))

    async def distributions(self, request: Request, view: View) -> Response:
        """GET /api/distributions."""
        found = await view.distributions(_namespace(request))
        return _json([resources.distribution(one) for one in found])

    async def suspend(self, request: Request, view: View) -> Response:
        """PATCH /api/distributions/{id}."""
        asked = await body_of(request, wire.Suspend)
        found = await view.resource(MODEL_DISTRIBUTION, request.path_params["id"])
        change = {"spec": {"suspend": asked.suspended}}
        changed = await self._orders.change(view, MODEL_DISTRIBUTION, found, change)
        return _json(resources.distribution(changed))

    async def routers(self, request: Request, view: View) -> Response:
        """GET /api/routers."""
        found = [resources.router(one) for one in await view.routers(_namespace(request))]
        traffic = self._parts.traffic
        if found:
            await traffic.asked()
        return _json([one.model_copy(update={"traffic": traffic.of(one.id)}) for one in found])

    # events

    async def events(self, request: Request, view: View) -> Response:
        """GET /api/events."""
        parts = self._parts
        authorization = request.headers.get("authorization")
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        stream = Stream(
            parts.store,
            view,
            parts.settings,
            parts.clock,
            _namespace(request),
            lambda: parts.identity.person(authorization),
            parts.traffic,
            parts.recent,
        ).events()

        async def held() -> AsyncIterator[bytes]:
            with self._places.one(view.person), parts.metrics.streams.track_inprogress():
                async for told in stream:
                    yield told

        places = held()
        first = await anext(places)  # a refusal is told before anything is sent

        async def sent() -> AsyncIterator[bytes]:
            yield first
            async for told in places:
                yield told

        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(sent(), headers=headers, media_type="text/event-stream")

    # the program

    async def _alive(self, _: Request) -> Response:
        return PlainTextResponse("ok\n", headers=HEADERS)

    async def _ready(self, _: Request) -> Response:
        if self._parts.store.synced:
            return PlainTextResponse("ok\n", headers=HEADERS)
        return PlainTextResponse("waiting for the fleet to be seen\n", 503, headers=HEADERS)

    async def _scrape(self, _: Request) -> Response:
        rendered = self._parts.metrics.render()
        return Response(rendered, headers=HEADERS, media_type=CONTENT_TYPE_LATEST)


_LATER = {"Retry-After": "15"}


def _json(told: BaseModel | Sequence[BaseModel], status: int = 200) -> Response:
    if isinstance(told, BaseModel):
        return JSONResponse(told.model_dump(), status)
    return JSONResponse([one.model_dump() for one in told], status)


def _namespace(request: Request) -> str | None:
    given = text_of(request, "namespace")
    if given is not None and not _NAMESPACE.fullmatch(given):
        raise Refusal(400, "namespace is no name of one: write lower-case letters, digits and -")
    return given


def _by_namespace(servers: Sequence[Server]) -> dict[str, list[Server]]:
    found: dict[str, list[Server]] = {}
    for server in servers:
        found.setdefault(server.namespace, []).append(server)
    return found


async def _nothing(request: Request, error: Exception) -> Response:
    """What has no path here, or no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    told = f"{request.method} {request.url.path[:200]} is nothing here: see /openapi.json"
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return JSONResponse({"error": told}, status, headers | HEADERS)


async def _broken(request: Request, error: Exception) -> Response:
    """Ours to mend: the log has it, the client a sentence."""
    log.error("%s %r failed", request.method, request.url.path, exc_info=error)
    told = "something went wrong here; the console's log says what"
    return JSONResponse({"error": told}, 500, HEADERS)
