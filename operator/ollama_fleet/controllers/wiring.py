"""kopf: the watches of everything the operator reads. No other module imports it.

Only event handlers are registered, and none of them patches: kopf writes nothing to any object,
neither annotations nor finalizers.
"""

import asyncio
from typing import Any

import kopf

from ollama_fleet.controllers.feed import Feed
from ollama_fleet.kube import Kube


class WatchesLostError(Exception):
    """kopf ended: nothing is watched any more."""


class Watches:
    """Runs kopf inside this event loop, from `run()` until `stop()`."""

    def __init__(self, kube: Kube, feed: Feed, namespaces: tuple[str, ...] = ()) -> None:
        self._feed = feed
        self._namespaces = namespaces
        self._stop = asyncio.Event()
        self._registry = kopf.OperatorRegistry()
        self._settings = _settings()
        self.started = asyncio.Event()
        """Set when kopf is up, its signal handlers included."""
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
        """Watch until stopped; raises WatchesLostError for what kopf cannot live with."""
        try:
            await kopf.operator(
                registry=self._registry,
                settings=self._settings,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
                ready_flag=self.started,
            )
        except Exception as error:
            raise WatchesLostError(str(error) or type(error).__name__) from error
        if not self._stop.is_set():
            raise WatchesLostError("kopf ended by itself")

    def stop(self) -> None:
        """Let `run()` end."""
        self._stop.set()

    async def _on_event(self, event: Any, **_: Any) -> None:
        if event["type"] == "DELETED":
            self._feed.deleted(event["object"])
        else:
            self._feed.changed(event["object"])


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
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(
        prefix="ollamafleet.dev"
    )
    return settings


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
