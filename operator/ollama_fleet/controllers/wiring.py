"""kopf: the watches of everything the operator reads. No other module imports it.

Only event handlers are registered, and none of them patches: kopf writes nothing to any object,
neither annotations nor finalizers.
"""

import asyncio
import logging
from contextlib import suppress
from threading import Thread
from typing import Any

import kopf

from ollama_fleet.controllers.feed import Feed
from ollama_fleet.kube import Kube

log = logging.getLogger(__name__)

_GOODBYE = 1.0
"""Seconds that kopf has to end."""
_SHORT = 60.0
_TRIES = 5
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 8.0


class WatchesLostError(Exception):
    """kopf ends again and again: nothing is watched any more."""


class Watches:
    """Runs kopf for as long as `run()` is awaited.

    kopf has a thread and an event loop of its own: it takes the main thread's signals otherwise,
    and at its end waits for, and cancels, every task of the loop it shares.
    """

    def __init__(self, kube: Kube, feed: Feed, namespaces: tuple[str, ...] = ()) -> None:
        self._feed = feed
        self._namespaces = namespaces
        self._main = asyncio.get_running_loop()
        self._registry = kopf.OperatorRegistry()
        self._settings = _settings()
        kopf.on.login(registry=self._registry, id="kubeconfig-or-service-account")(_login(kube))
        for kind, selector in feed.kinds.items():
            kopf.on.event(
                kind.group, kind.version, kind.plural, id=kind.plural, registry=self._registry
            )(self._on_event)
            if selector:
                self._settings.watching.label_selectors[kind.group, kind.version, kind.plural] = (
                    selector
                )

    async def run(self) -> None:
        """Watch until cancelled; raises WatchesLostError where that cannot be.

        kopf ends for good where a watch is refused, be it with 410 or once only: it is started
        again, and lists everything first.
        """
        short, clock = 0, self._main.time
        while True:
            began = clock()
            why = await self._until_ended()
            short = short + 1 if clock() - began < _SHORT else 1
            if short == _TRIES:
                raise WatchesLostError(why)
            log.warning("the watches ended (%s); they begin anew", why)
            await asyncio.sleep(min(_LAST_PAUSE, _FIRST_PAUSE * 2**short))

    async def _until_ended(self) -> str:
        """One life of kopf; why it ended."""
        stop = asyncio.Event()
        ended: asyncio.Future[str] = self._main.create_future()
        beside = asyncio.new_event_loop()
        arguments = (beside, stop, ended)
        Thread(target=self._watch, args=arguments, name="kopf", daemon=True).start()
        try:
            return await asyncio.shield(ended)
        finally:
            with suppress(RuntimeError):  # its loop is closed: kopf has ended by itself
                beside.call_soon_threadsafe(stop.set)
            await asyncio.wait({ended}, timeout=_GOODBYE)

    def _watch(
        self,
        beside: asyncio.AbstractEventLoop,
        stop: asyncio.Event,
        ended: "asyncio.Future[str]",
    ) -> None:
        reason = "kopf ended"
        try:
            with asyncio.Runner(loop_factory=lambda: beside) as runner:
                runner.run(self._kopf(stop))
        except Exception as error:
            reason = str(error) or type(error).__name__
        with suppress(RuntimeError):  # the main loop is closed: nobody waits any more
            self._main.call_soon_threadsafe(_settle, ended, reason)

    async def _kopf(self, stop: asyncio.Event) -> None:
        await kopf.operator(
            registry=self._registry,
            settings=self._settings,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
        )

    async def _on_event(self, event: Any, **_: Any) -> None:
        tell = self._feed.deleted if event["type"] == "DELETED" else self._feed.changed
        with suppress(RuntimeError):  # the main loop is closed: the operator has ended
            self._main.call_soon_threadsafe(tell, event["object"])


def _settle(ended: "asyncio.Future[str]", reason: str) -> None:
    if not ended.done():
        ended.set_result(reason)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 5.0
    settings.networking.trust_env = True
    settings.networking.error_backoffs = (0.5, 1, 1, 2, 2, 3, 3, 5, 5, 5)
    settings.watching.chunk_size = 500
    settings.watching.reconnect_backoff = 0.5
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None
    # Nothing writes these; should a handler ever do, they are ours and not every kopf's.
    settings.persistence.finalizer = "ollamafleet.dev/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(
        prefix="ollamafleet.dev"
    )
    settings.persistence.diffbase_storage = _NoDiffs()
    return settings


class _NoDiffs(kopf.DiffBaseStorage):
    """Event handlers are not told what has changed: to find out costs copies of each object."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass


def _login(kube: Kube) -> Any:
    """kopf asks again whenever the API server refuses a token, so a rotated one is picked up."""

    async def login(**kwargs: Any) -> kopf.ConnectionInfo:
        found = await kube.credentials()
        scheme, _, token = (found.authorization or "").partition(" ")
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_file,
            insecure=found.insecure,
            scheme=scheme or None,
            token=token or None,
            certificate_path=found.certificate_file,
            private_key_path=found.key_file,
            trust_env=True,
        )

    return login
