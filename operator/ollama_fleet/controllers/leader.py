"""Leader election on a Lease, as client-go does it.

A leader counts from the moment it *asked* for the Lease, others from the moment they *saw* it
renewed, which is later. They wait LEASE_SECONDS, it stops writing after RENEW_DEADLINE: so no two
ever write at once, be the one slow, cut off or frozen.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from ollama_fleet.controllers.clock import Clock
from ollama_fleet.kube import Conflict, Kube, KubeError, Object
from ollama_fleet.kube.kinds import DEPLOYMENT, LEASE

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
RENEW_DEADLINE = 7.0
RETRY_PERIOD = 2.0
LOOK_PERIOD = 0.5
"""Seconds between a candidate's looks at the Lease, jittered to twice that: a released one is
taken within one, that of a leader that is no more within 12."""


class LeadershipLostError(Exception):
    """Another operator may be leading: stop at once."""


class Leader:
    """One candidate, known by `identity`, for the Lease `name`.

    The Lease is the Deployment's, where one is named: Kubernetes removes it with that.
    """

    def __init__(
        self,
        kube: Kube,
        clock: Clock,
        random: Callable[[], float],
        identity: str,
        namespace: str,
        name: str = "ollama-fleet-operator",
        deployment: str = "",
    ) -> None:
        # the lease counts from when it was asked for: waiting inside a call would use it up
        self._kube = kube.hurried()
        self._clock = clock
        self._random = random
        self._identity = identity
        self._namespace = namespace
        self._name = name
        self._deployment = deployment
        self._lease: Object | None = None
        self._seen: tuple[str, float] = ("", 0.0)
        self._asked = 0.0
        self.leading = False

    async def acquire(self) -> None:
        """Wait until this candidate leads. Says who does meanwhile."""
        said, never = "", asyncio.Event()
        while True:
            try:
                async with asyncio.timeout(RENEW_DEADLINE):
                    holder = await self._try()
            except (KubeError, TimeoutError) as error:
                holder = f"nobody known ({error or 'no answer in time'})"
            if holder == self._identity:
                self.leading = True
                log.info("leading as %s", self._identity)
                return
            if holder != said:
                log.info("waiting to lead; the leader is %s", holder)
                said = holder
            await self._clock.wait(never, LOOK_PERIOD * (1 + self._random()))

    def sure(self) -> bool:
        """Whether nobody else can be leading at this moment."""
        return self.leading and self._left() > 0

    def _left(self) -> float:
        return self._asked + RENEW_DEADLINE - self._clock.monotonic()

    async def hold(self, kube: Kube | None = None) -> None:
        """Keep leading; raises LeadershipLostError when that cannot be sure any more.

        With a ``kube`` of its own it may run on another event loop than `acquire`.
        """
        self._kube, before = kube.hurried() if kube else self._kube, self._kube
        try:
            await self._renew()
        finally:
            self._kube = before

    async def _renew(self) -> None:
        problem, never = "no answer in time", asyncio.Event()
        while True:
            await self._clock.wait(never, RETRY_PERIOD)
            left = self._left()
            if left <= 0:
                self.leading = False
                raise LeadershipLostError(f"the lease could not be renewed: {problem}")
            try:
                async with asyncio.timeout(left):
                    holder = await self._try()
            except (KubeError, TimeoutError) as error:
                problem = str(error) or problem
                continue
            if holder != self._identity:
                self.leading = False
                raise LeadershipLostError(f"{holder} leads now")

    async def release(self) -> None:
        """Give the Lease up, so that another candidate need not wait for its end."""
        if not self.leading or self._lease is None:
            return
        self.leading = False
        spec = self._lease["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._kube.update(self._lease | {"spec": spec})
        except KubeError as error:
            log.warning("cannot release the lease: %s", error)

    async def _try(self) -> str:
        """Take or renew the Lease where that is allowed; who holds it then."""
        asked = self._clock.monotonic()
        now = _micro_time(self._clock.now())
        ours = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
        }
        try:
            if self.leading and self._lease is not None:
                # The last answer is fresh enough to renew on; a Conflict says where it is not.
                self._lease = await self._kube.update(
                    self._lease | {"spec": self._lease["spec"] | ours}
                )
                self._asked = asked
                return self._identity
            lease = await self._kube.get(LEASE, self._name, self._namespace)
            if lease is None:
                first = {"acquireTime": now, "leaseTransitions": 0}
                self._lease = await self._kube.create(await self._owned(self._named(ours | first)))
                self._asked = asked
                return self._identity
            spec = lease.get("spec") or {}
            holder = spec.get("holderIdentity") or ""
            if holder not in ("", self._identity) and not self._expired(lease):
                return str(holder)
            turn = {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
            # Its owner stays as it is: to change that, some clusters ask for the right to delete.
            self._lease = await self._kube.update(lease | {"spec": spec | ours | turn})
        except Conflict:
            lease = await self._kube.get(LEASE, self._name, self._namespace)
            self._lease = lease
            return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "nobody")
        self._asked = asked
        return self._identity

    async def _owned(self, lease: Object) -> Object:
        """The Lease, as one of the Deployment's that runs this candidate."""
        if not self._deployment:
            return lease
        owner = await self._kube.get(DEPLOYMENT, self._deployment, self._namespace)
        if owner is None:
            return lease
        meta = {key: owner["metadata"][key] for key in ("name", "uid")}
        reference = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, **meta}
        return lease | {"metadata": lease["metadata"] | {"ownerReferences": [reference]}}

    def _expired(self, lease: Object) -> bool:
        """By our own clock alone, from when the Lease was last seen to change."""
        version, seen = lease["metadata"]["resourceVersion"], self._clock.monotonic()
        if version != self._seen[0]:
            self._seen = (version, seen)
        return seen - self._seen[1] > (lease["spec"].get("leaseDurationSeconds") or LEASE_SECONDS)

    def _named(self, spec: Object) -> Object:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": spec,
        }


def _micro_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
