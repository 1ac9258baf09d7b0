"""Planning an OllamaNode: its workload, and how its servers stand."""

from datetime import datetime

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan import unsupported
from ollama_fleet.plan.claims import claim_template, outdated
from ollama_fleet.plan.conditions import Verdict, transition
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.observed import Observed, updated, wanted
from ollama_fleet.plan.report import status_of
from ollama_fleet.plan.result import Object, Plan
from ollama_fleet.plan.servers import Server, servers_of
from ollama_fleet.plan.workload import names, objects


def plan_ollamanode(node: Object, observed: Observed, now: datetime) -> Plan:
    """What to apply for an OllamaNode, and its status."""
    spec = OllamaNodeSpec.model_validate(node["spec"])
    servers = servers_of(
        node,
        spec,
        observed.pods,
        observed.kubernetes_nodes,
        observed.probes,
        now,
        observed.rivals,
        observed.devices,
    )
    unserved = unsupported.ollama_node(node["spec"]) or _claims_refused(spec, observed.devices)
    verdict = unserved or _verdict(spec, observed, servers)
    gpus = claim_template(node, spec, names(node)[1])
    made = () if unserved else objects(node, spec, observed.workload, gpus)
    old = outdated(gpus, observed.claim_templates, observed.workload, observed.pods)
    previous = node.get("status") or {}
    return Plan(
        apply=made,
        delete=() if unserved else old,
        status=status_of(node, spec, observed, servers, verdict, now),
        notes=transition(previous.get("conditions") or (), verdict),
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


def _verdict(spec: OllamaNodeSpec, observed: Observed, servers: list[Server]) -> Verdict:
    count = wanted(spec, observed.workload)
    ready = sum(server.state == "Ready" for server in servers)
    told = f"{ready} of {count} servers ready"
    trouble = next((server.trouble for server in servers if server.trouble), None)
    if trouble is not None:
        return Verdict.stuck(trouble.reason, trouble.message)
    if spec.cordoned:
        return Verdict(
            Reason.CORDONED, "cordoned: no new requests or pulls. Set spec.cordoned to false."
        )
    if spec.external is None and not _seen(observed.workload):
        return Verdict.underway(told)
    if count == 0 and spec.per_node is not None:
        return Verdict.stuck(
            Reason.NO_SERVERS,
            "no machine matches: GPU machines need the labels of the vendor's feature discovery; "
            "or set gpu.vendor to none, or correct spec.template.nodeSelector.",
        )
    if (grown := _grown(spec, observed.workload)) is not None:
        return grown
    if ready < count or len(servers) > count:
        return Verdict.underway(told)
    if updated(spec, observed.workload, ready) < count:
        return Verdict.underway(f"{told}, an update rolls")
    return Verdict.good(told)


def _seen(workload: Object | None) -> bool:
    """Whether there is a workload, and its status speaks of its newest spec."""
    if workload is None:
        return False
    status, meta = workload.get("status") or {}, workload.get("metadata") or {}
    return bool(status.get("observedGeneration") == meta.get("generation"))


def _grown(spec: OllamaNodeSpec, workload: Object | None) -> Verdict | None:
    """Volumes keep the size they were made with; who wants another is told so."""
    claims = ((workload or {}).get("spec") or {}).get("volumeClaimTemplates") or ()
    for claim in claims:
        size = claim["spec"]["resources"]["requests"]["storage"]
        if spec.storage.size and bytes_of(size) != bytes_of(spec.storage.size):
            return Verdict.stuck(
                Reason.UNSUPPORTED,
                f"the volumes have {size}, and growing them is not served by this version. Set "
                f"spec.storage.size back to {size}.",
                ready=True,
            )
    return None
