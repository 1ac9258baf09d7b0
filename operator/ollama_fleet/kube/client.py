"""The Kubernetes port: the few calls the programs make, on plain dictionaries."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import uuid4

from ollama_fleet.kube.credentials import Credentials
from ollama_fleet.kube.errors import Conflict, Fenced, KubeError, NotFound
from ollama_fleet.kube.kinds import EVENT, POD, SERVICE_ACCOUNT, Kind, Object, kind_of
from ollama_fleet.kube.listing import PAGE, ObjectList, list_all, list_page
from ollama_fleet.kube.patience import PATIENCE, patiently
from ollama_fleet.kube.watch import INACTIVITY, Watch, WatchEvent

if TYPE_CHECKING:
    from ollama_fleet.kube.transport import Params, Transport

log = logging.getLogger(__name__)

FIELD_MANAGER = "ollama-fleet"
_NOTE_BYTES = 1024

Objects = list[Object]
Propagation = Literal["Background", "Foreground", "Orphan"]


class Kube:
    """Calls to one API server. Every failure is a `KubeError`.

    A call that is told to come again later (429) does so, for `patience` seconds at most; so does
    one that is safe to repeat after a 5xx.
    """

    def __init__(
        self,
        transport: "Transport",
        may_write: Callable[[], bool] = lambda: True,
        patience: float = PATIENCE,
    ) -> None:
        self._transport = transport
        self._may_write = may_write
        self._patience = patience

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Configure from `kubeconfig`, KUBECONFIG, the pod's service account, or the home file.

        Reaches no network. ConfigError where there is no usable configuration.
        """
        # The official client costs 30 MB and 0.3 s: only programs that connect pay it.
        from ollama_fleet.kube.transport import Transport

        transport = Transport(kubeconfig, context)
        await transport.open()
        return cls(transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; watches end."""
        await self._transport.close()

    @property
    def server(self) -> str:
        """The API server's address, for messages."""
        return self._transport.server

    async def acting(self, token: str) -> "Kube":
        """Calls that whoever has this bearer token answers for, over connections of this one."""
        return Kube(await self._transport.acting(f"Bearer {token}"))

    def fenced(self, may_write: Callable[[], bool]) -> "Kube":
        """The same connections; a write is refused at once (Fenced) where `may_write` says no."""
        return Kube(self._transport, may_write, self._patience)

    def hurried(self) -> "Kube":
        """The same connections; a call that would be made again fails at once."""
        return Kube(self._transport, self._may_write, 0.0)

    async def credentials(self) -> Credentials:
        """What another client needs to reach the same API server, read anew."""
        return await self._transport.credentials()

    async def apply(
        self,
        obj: Object,
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: create the object, or make the given fields so and ours; what it is
        then. `dry_run`: what it would be."""
        return await self._apply(obj, "", field_manager, force, dry_run)

    async def apply_status(
        self, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True
    ) -> Object:
        """Server-side apply of `status` alone; NotFound where the object does not exist."""
        gist = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {
                key: obj["metadata"][key]
                for key in ("name", "namespace", "uid")
                if key in obj["metadata"]
            },
            "status": obj["status"],
        }
        return await self._apply(gist, "status", field_manager, force)

    async def _apply(
        self, obj: Object, sub: str, field_manager: str, force: bool, dry_run: bool = False
    ) -> Object:
        kind, meta = kind_of(obj), obj["metadata"]
        return await self._write(
            "PATCH",
            kind.path(meta.get("namespace"), meta["name"], sub),
            {
                "fieldManager": field_manager,
                "force": force,
                "dryRun": "All" if dry_run else None,
            },
            obj,
            "application/apply-patch+yaml",
        )

    async def _write(
        self,
        method: str,
        path: str,
        params: "Params | None" = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        async def once() -> Object:
            if not self._may_write():
                raise Fenced
            return await self._transport.request(method, path, params, body, content_type)

        return await patiently(once, self._patience, idempotent=method == "PATCH")

    async def _ask(
        self, method: str, path: str, params: "Params | None" = None, body: Any = None
    ) -> Object:
        """What changes no object."""
        call = partial(self._transport.request, method, path, params, body)
        return await patiently(call, self._patience, idempotent=method == "GET")

    async def create(self, obj: Object) -> Object:
        """Create; Conflict (`exists`) where the name is taken."""
        path = kind_of(obj).path(obj["metadata"].get("namespace"))
        return await self._write("POST", path, {"fieldManager": FIELD_MANAGER}, obj)

    async def update(self, obj: Object) -> Object:
        """Replace; Conflict where the object changed since `metadata.resourceVersion`."""
        meta = obj["metadata"]
        path = kind_of(obj).path(meta.get("namespace"), meta["name"])
        return await self._write("PUT", path, {"fieldManager": FIELD_MANAGER}, obj)

    async def patch(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        patch: dict[str, Any],
        subresource: str = "",
    ) -> Object:
        """JSON merge patch: null removes a key, lists are replaced whole."""
        return await self._write(
            "PATCH",
            kind.path(namespace, name, subresource),
            {"fieldManager": FIELD_MANAGER},
            patch,
            "application/merge-patch+json",
        )

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None; NotFound only where the kind itself is unknown to the server."""
        try:
            return await self._ask("GET", kind.path(namespace, name))
        except NotFound as error:
            if error.details.get("name") == name:
                return None
            raise

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Objects:
        """Every object of a kind, read in pages; all namespaces where none is given."""
        return (await self.list_all(kind, namespace, label_selector, field_selector)).items

    async def list_all(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> ObjectList:
        """As `list`, with the resourceVersion of the moment it shows."""
        return await list_all(self._ask, kind, namespace, label_selector, field_selector)

    async def list_page(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        *,
        limit: int = PAGE,
        continue_token: str | None = None,
    ) -> ObjectList:
        """One page of at most `limit` objects; Gone where `continue_token` is too old."""
        return await list_page(
            self._ask, kind, namespace, label_selector, field_selector, limit, continue_token
        )

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str | None = None,
        *,
        on_error: Callable[[KubeError], None] | None = None,
        inactivity: float = INACTIVITY,
        field_selector: str | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """List, then watch, for ever; reconnects by itself and never raises a KubeError.

        `on_error` hears of each failed attempt. `inactivity`: seconds of silence before the
        connection is taken for dead.
        """

        watch = Watch(
            self._transport, kind, namespace, label_selector, on_error, inactivity, field_selector
        )
        async with aclosing(watch.events()) as events:
            async for event in events:
                yield event

    async def log(
        self,
        pod: str,
        namespace: str,
        *,
        container: str,
        follow: bool = False,
        tail: int | None = None,
        since: int | None = None,
    ) -> AsyncGenerator[str, None]:
        """The lines that a container has written, and with `follow` those to come, until it ends.

        `tail`: how many lines from the end; `since`: of how many seconds.
        """
        asked = {
            "container": container,
            "follow": follow or None,
            "tailLines": tail,
            "sinceSeconds": since,
        }
        path = POD.path(namespace, pod, "log")
        async with aclosing(self._transport.lines(path, asked)) as lines:
            async for line in lines:
                yield line

    async def text(self, kind: Kind, path: str, namespace: str, *, timeout: float) -> str:
        """What an object answers that is no JSON, such as a pod behind the API server's proxy;
        `path` follows the collection's. In `timeout` seconds, or Unavailable."""
        return await self._transport.text(kind.path(namespace, path), {}, timeout)

    async def token(self, account: str, namespace: str, *, seconds: int) -> str:
        """A new token of a service account, good for so long if the API server allows it."""
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        path = SERVICE_ACCOUNT.path(namespace, account, "token")
        answer = await self._ask("POST", path, body=asked)
        return str(answer["status"]["token"])

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = "Background",
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> bool:
        """Delete; False where it is gone already, or another object (`uid`) has its name."""
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._write("DELETE", kind.path(namespace, name), body=options)
        except NotFound:
            return False
        except Conflict as error:
            if uid is not None and "precondition" in error.message.lower():
                return False
            raise
        return True

    async def event(
        self,
        regarding: Object,
        *,
        type: Literal["Normal", "Warning"],  # noqa: A002
        reason: str,
        message: str,
        action: str = "Reconcile",
        reporting_controller: str = "ollamafleet.dev/operator",
        reporting_instance: str = "ollama-fleet-operator",
    ) -> None:
        """Post an Event about an object. An Event that cannot be posted is logged, not raised."""
        meta = regarding["metadata"]
        namespace = meta.get("namespace", "default")
        about = {key: meta[key] for key in ("name", "namespace", "uid") if key in meta}
        event = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "name": f"{meta['name'][:220]}.{uuid4().hex[:16]}",
                "namespace": namespace,
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": type,
            "reason": reason,
            "action": action,
            "note": _shorten(message, _NOTE_BYTES),
            "regarding": {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"]} | about,
            "reportingController": reporting_controller,
            "reportingInstance": reporting_instance,
        }
        try:
            await self.create(event)
        except KubeError as error:
            log.warning("cannot post event %s for %s: %s", reason, meta["name"], error)


def _shorten(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, as the API server counts them."""
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode(errors="ignore") + "…"
