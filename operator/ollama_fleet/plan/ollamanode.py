"""Planning an OllamaNode: its workload, and how its servers stand."""

from dataclasses import replace
from datetime import datetime

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.servers import DRAINING_LABEL
from ollama_fleet.plan import preload, unbound, volumes
from ollama_fleet.plan.advisories import exposure
from ollama_fleet.plan.claims import claim_template, outdated
from ollama_fleet.plan.conditions import Verdict, Warned, transition
from ollama_fleet.plan.creation import look_again, mended, missing, refusal
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.drain import LOOK_AGAIN, drained, draining_mark, ending
from ollama_fleet.plan.machines import joined_in
from ollama_fleet.plan.networkpolicy import network_policy
from ollama_fleet.plan.observed import Observed, wanted
from ollama_fleet.plan.report import status_of, versions_of
from ollama_fleet.plan.residency import absent, restoring
from ollama_fleet.plan.result import Object, Plan, soonest
from ollama_fleet.plan.rollout import current, replaced_next, seen, told, updated
from ollama_fleet.plan.servers import Server, servers_of
from ollama_fleet.plan.stores import taken
from ollama_fleet.plan.troubles import Trouble, together
from ollama_fleet.plan.wedges import Wedges
from ollama_fleet.plan.workload import names, objects


def plan_ollamanode(node: Object, observed: Observed, now: datetime) -> Plan:
    """What to apply, replace and load for an OllamaNode, and its status."""
    spec = OllamaNodeSpec.model_validate(node["spec"])
    servers = _remembering(node, spec, observed, _servers(node, spec, observed, now))
    told_before = {one["name"]: one for one in (node.get("status") or {}).get("servers") or ()}
    wedges = Wedges.of(servers, observed.wedged, told_before, now)
    servers = wedges.explained(servers)
    unserved = _claims_refused(spec, observed.devices) or taken(
        node, observed.pods, observed.workload, observed.neighbours
    )
    name, labels = names(node)
    lacking = 0 if unserved else missing(observed.workload, observed.pods)
    refused = None
    if lacking:
        since = mended((node.get("status") or {}).get("conditions") or (), now)
        namespace = node["metadata"]["namespace"]
        refused = refusal(namespace, observed.events, observed.pods, now, since)
    verdict = unserved or _verdict(name, spec, observed, servers, refused, wedges)
    kept = preload.kept(observed.demands, servers, now)
    if not verdict.stalled:
        verdict = preload.unloaded(servers, kept, observed.unloaded) or verdict
    warned = Warned("Vulnerable", Reason.VULNERABLE_VERSION, exposure(spec, versions_of(servers)))
    gpus = claim_template(node, spec, labels)
    made = () if unserved else objects(node, spec, observed.workload, gpus)
    if made:
        made = (*made, network_policy(node, observed.operator_namespace))
    old = outdated(gpus, observed.claim_templates, observed.workload, observed.pods)
    stale: tuple[Object, ...] = ()
    if spec.external is None:
        count = wanted(spec, observed.workload)
        stale = replaced_next(spec, observed.workload, servers, count, wedges.due)
    gone = {pod["metadata"]["name"] for pod in stale}
    restarted = {
        one.name for one in servers if one.pod and one.pod["metadata"]["name"] in gone
    } & wedges.due
    events = wedges.notes(servers, restarted)
    wedges = wedges.restarted(restarted)
    before = (node.get("status") or {}).get("conditions") or ()
    return Plan(
        apply=(*made, *_marks(servers)),
        delete=() if unserved else (*old, *stale),
        change=() if unserved else volumes.to_grow(name, spec, observed.volumes),
        hasten=drained(observed.pods, observed.probes, observed.routers),
        loads=preload.loads(node, servers, kept, spec.server.keep_alive),
        status=status_of(node, spec, observed, servers, verdict, warned, now, kept, wedges),
        notes=(*transition(before, verdict), *warned.notes(before), *events),
        requeue_after=soonest(
            _look_again(spec, observed, now),
            look_again(before, now) if lacking else None,
            joined_in(observed.pods, observed.kubernetes_nodes, now),
            preload.next_edge(observed.demands, now),
            wedges.next,
        ),
    )


def _look_again(spec: OllamaNodeSpec, observed: Observed, now: datetime) -> float | None:
    if any(ending(pod) for pod in observed.pods):
        return LOOK_AGAIN
    if observed.volumes.refused:
        return volumes.TRY_AGAIN
    return unbound.look_again(spec, observed.pods, observed.volumes, now)


def _servers(node: Object, spec: OllamaNodeSpec, observed: Observed, now: datetime) -> list[Server]:
    servers = servers_of(
        node,
        spec,
        observed.pods,
        observed.kubernetes_nodes,
        observed.probes,
        now,
        observed.rivals,
        observed.devices,
        observed.disks,
    )
    return unbound.explained(servers, spec, observed.pods, observed.volumes, now)


def _remembering(
    node: Object, spec: OllamaNodeSpec, observed: Observed, servers: list[Server]
) -> list[Server]:
    """The servers, with those that have no pod right now, and what each had in memory."""
    before = {one["name"]: one for one in (node.get("status") or {}).get("servers") or ()}
    everyone = [*servers, *absent(node, spec, observed, before, servers)]
    if spec.external is not None:
        return everyone
    return [
        one
        if (models := restoring(before.get(one.name, {}), one, observed.named)) == one.restoring
        else replace(one, restoring=models)
        for one in everyone
    ]


def _marks(servers: list[Server]) -> tuple[Object, ...]:
    """A label on the pods of machines that nothing new may come to: routers see pods only."""
    return tuple(
        draining_mark(server.pod, wanted=server.note is not None)
        for server in servers
        if server.pod is not None
        and not server.pod["metadata"].get("deletionTimestamp")
        and (server.note is not None or DRAINING_LABEL in server.pod["metadata"].get("labels", {}))
    )


def _claims_refused(spec: OllamaNodeSpec, devices: Devices) -> Verdict | None:
    if spec.gpu.allocation != "ResourceClaim" or devices.refused is None:
        return None
    return Verdict.stuck(
        Reason.UNSUPPORTED,
        "spec.gpu.allocation ResourceClaim needs resource.k8s.io/v1, which Kubernetes serves from "
        f"1.34 on, and leave to use it; here: {devices.refused}. Upgrade and restart the operator, "
        "or set spec.gpu.allocation to DevicePlugin.",
    )


def _verdict(
    name: str,
    spec: OllamaNodeSpec,
    observed: Observed,
    servers: list[Server],
    refused: Trouble | None,
    wedges: Wedges,
) -> Verdict:
    count = wanted(spec, observed.workload)
    ready = sum(server.state == "Ready" for server in servers)
    summary = f"{ready} of {count} servers ready"
    troubles = [(server.name, server.trouble) for server in servers if server.trouble]
    trouble = together(troubles) or refused
    if trouble is not None:
        return Verdict.stuck(trouble.reason, trouble.message)
    if spec.cordoned:
        return Verdict(
            Reason.CORDONED, "cordoned: no new requests or pulls. Set spec.cordoned to false."
        )
    if spec.external is None and not seen(observed.workload):
        # of a DaemonSet nobody has counted yet
        return Verdict.underway(f"{ready} of {max(count, len(servers))} servers ready")
    if count == 0 and spec.per_node is not None:
        return Verdict.stuck(
            Reason.NO_SERVERS,
            "no machine matches: GPU machines need the labels of the vendor's feature discovery; "
            "or set gpu.vendor to none, or correct spec.template.nodeSelector.",
        )
    if (unloaded := _unloaded(observed, servers)) is not None:
        return unloaded
    if (wedged := wedges.verdict(servers, summary)) is not None:
        return wedged
    growth = volumes.growth(name, spec, observed.volumes, ready=ready >= count)
    if growth is not None:
        return growth
    if (new := updated(spec, observed.workload, servers)) < count and _rolls(spec, observed):
        return Verdict.underway(
            f"{summary}, an update rolls: {new} of {count} have it, {told(servers)}"
        )
    notes = [server.note for server in servers if server.note and server.state == "Draining"]
    if notes and ready + len(notes) >= count:
        return Verdict(Reason.CORDONED, f"{summary}: {notes[0]}. See kubectl uncordon.")
    if any(server.up and server.restoring for server in servers):
        return Verdict.underway(f"{summary}, {told(servers)}")
    if ready < count or len(servers) > count:
        return Verdict.underway(summary)
    return Verdict.good(summary)


def _rolls(spec: OllamaNodeSpec, observed: Observed) -> bool:
    """Whether an update is on its way, and this is not the first start."""
    return spec.external is None and any(
        not current(pod, observed.workload) for pod in observed.pods
    )


def _unloaded(observed: Observed, servers: list[Server]) -> Verdict | None:
    """A model that will not load where it was loaded before."""
    for server in servers:
        for model in server.restoring:
            why = observed.unloaded.get((server.url or "", model))
            if why is not None:
                return Verdict.stuck(
                    Reason.LOAD_FAILED,
                    f"{server.name}: {model} was in memory before, and does not load again: "
                    f"{why.rstrip('.')}. No further server is updated until then. Take back what "
                    "was changed, lower server.contextLength or server.parallel, or delete the "
                    "model there.",
                )
    return None
