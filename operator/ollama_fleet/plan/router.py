"""Planning a Router: its Deployment, Service and rights, and how it stands."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import PORT
from ollama_fleet.api.router import RouterServers, RouterSpec, RouterStatus, Select
from ollama_fleet.api.servers import ROUTER_LABEL, is_meant, labels, selector
from ollama_fleet.plan import aliases, entrances, unsupported
from ollama_fleet.plan.conditions import Verdict, conditions, transition
from ollama_fleet.plan.result import Object, Plan, child
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.troubles import Trouble, pod_trouble, refused_by_scheduler

_RBAC = "rbac.authorization.k8s.io"
USER = 65532
ADMIN_PORT = 9090
DRAIN_SECONDS = 300
MODELS_SHOWN = 200
TEMPLATE_ANNOTATION = "ollamafleet.dev/template"
"""On every router pod: which pod template made it."""


@dataclass(frozen=True)
class Program:
    """How routers are run: the image, and what lets them see servers."""

    image: str
    cluster_role: str
    role: str = ""
    """A Role of their own namespace, in the ClusterRole's place."""
    console: str = ""
    """Where the console answers; empty where there is none."""


@dataclass(frozen=True)
class Observed:
    """What the cluster shows of one Router."""

    deployment: Object | None
    service: Object | None
    pods: tuple[Object, ...]
    servers: tuple[Server, ...]
    """The servers of the namespace; of those it does not mean, none need be here."""
    ollamanodes: tuple[Object, ...] = ()
    """Every OllamaNode of the namespace; one may have no server yet."""
    secret_troubles: tuple[Trouble, ...] = ()
    """What is wrong with the Secrets it names."""
    entrances: tuple[Object, ...] = ()
    """Its Ingress and its HTTPRoute, where there are any."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Kinds that the cluster does not show, and why."""


def selects(select: Select, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a Router means the OllamaNode of that name and those labels."""
    return is_meant(select.ollama_nodes, select.selector, name, labels)


def backend_secrets(spec: Mapping[str, Any]) -> list[SecretRefs]:
    """The Secrets that a Router's spec names in its backends."""
    found = set()
    for backend in spec.get("backends") or ():
        refs = (backend.get(field) or {} for field in ("headersSecretRef", "caSecretRef"))
        found.add(SecretRefs(*(ref.get("name") for ref in refs)))
    return sorted((refs for refs in found if refs.names), key=lambda refs: refs.names)


def own_secrets(spec: RouterSpec) -> list[str]:
    """The Secrets that concern its clients: their keys, and its certificate."""
    keys = spec.auth.keys_secret_ref if spec.auth else None
    found = {keys.name if keys else "", spec.tls.secret_name if spec.tls else ""}
    return sorted(found - {""})


def selected(select: Select, servers: Iterable[Server]) -> list[Server]:
    """The servers a Router means."""
    return [one for one in servers if selects(select, one.ollamanode, one.labels)]


def plan_router(router: Object, observed: Observed, program: Program, now: datetime) -> Plan:
    """What to apply for a Router, and its status."""
    spec = RouterSpec.model_validate(router["spec"])
    refused = unsupported.router(router["spec"], program.console) or aliases.fault(spec.models)
    servers = selected(spec.select, observed.servers)
    _, all_labels = _names(router)
    deployment = _deployment(router, spec, program)
    verdict = refused or _verdict(spec, observed, servers, _template_of(deployment))
    objects: tuple[Object, ...] = ()
    if refused is None:
        objects = (
            _service_account(router),
            _role_binding(router, spec, program),
            _secrets_role(router, spec, servers),
            _secrets_binding(router, spec),
            _service(router, spec),
            deployment,
            *entrances.served(router, spec, all_labels, observed.unread),
        )
    previous = router.get("status") or {}
    return Plan(
        apply=objects,
        delete=entrances.given_up(router, spec, observed.entrances),
        status=_status(router, spec, observed, servers, verdict, now),
        notes=transition(previous.get("conditions") or (), verdict),
    )


def _names(router: Object) -> tuple[str, dict[str, str]]:
    name = router["metadata"]["name"]
    return name, labels(ROUTER_LABEL, name, "ollama-fleet-router")


def _service_account(router: Object) -> Object:
    name, all_labels = _names(router)
    made = child(router, "v1", "ServiceAccount", f"{name}-router", all_labels)
    made["automountServiceAccountToken"] = False
    return made


def _role_binding(router: Object, spec: RouterSpec, program: Program) -> Object:
    # What a binding binds to can never change: hence a name for each.
    if program.role:
        return _binding(router, spec, "router-reads", {"kind": "Role", "name": program.role})
    role = {"kind": "ClusterRole", "name": program.cluster_role}
    return _binding(router, spec, "router", role)


def _secrets_role(router: Object, spec: RouterSpec, servers: Iterable[Server]) -> Object:
    """To read the Secrets that its servers are reached by, and its own, and no other."""
    name, all_labels = _names(router)
    of_backends = {one for refs in backend_secrets(router["spec"]) for one in refs.names}
    secrets = of_backends.union(own_secrets(spec), *(server.secrets for server in servers))
    made = child(router, f"{_RBAC}/v1", "Role", f"{name}-router-secrets", all_labels)
    # a rule without names would be a right to every Secret
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    made["rules"] = [{**rule, "resourceNames": sorted(secrets)}] if secrets else []
    return made


def _secrets_binding(router: Object, spec: RouterSpec) -> Object:
    role = {"kind": "Role", "name": f"{router['metadata']['name']}-router-secrets"}
    return _binding(router, spec, "router-secrets", role)


def _binding(router: Object, spec: RouterSpec, suffix: str, role: dict[str, str]) -> Object:
    name, all_labels = _names(router)
    # pods of before still run as the Router's own ServiceAccount
    accounts = dict.fromkeys((f"{name}-router", spec.template.service_account_name))
    made = child(router, f"{_RBAC}/v1", "RoleBinding", f"{name}-{suffix}", all_labels)
    made["roleRef"] = {"apiGroup": _RBAC, **role}
    made["subjects"] = [
        {
            "kind": "ServiceAccount",
            "name": account,
            "namespace": router["metadata"]["namespace"],
        }
        for account in accounts
        if account is not None
    ]
    return made


def _service(router: Object, spec: RouterSpec) -> Object:
    name, all_labels = _names(router)
    made = child(router, "v1", "Service", name, all_labels)
    if spec.service.annotations:
        made["metadata"]["annotations"] = dict(spec.service.annotations)
    # the pods' port keeps its name: pods of before and after must both be led to
    port = {"name": "http", "port": spec.service.port, "targetPort": "http", "protocol": "TCP"}
    made["spec"] = {
        "type": spec.service.type,
        "selector": selector(ROUTER_LABEL, name),
        "ports": [port | ({"name": "https", "appProtocol": "https"} if spec.tls else {})],
    }
    return made


def _deployment(router: Object, spec: RouterSpec, program: Program) -> Object:
    name, all_labels = _names(router)
    template = spec.template
    made = child(router, "apps/v1", "Deployment", f"{name}-router", all_labels)
    pod: dict[str, Any] = {
        "serviceAccountName": template.service_account_name or f"{name}-router",
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 15,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
            **(template.security_context or {}),
        },
        "containers": [_container(router, spec, program)],
    }
    optional = {
        "affinity": template.affinity,
        "nodeSelector": template.node_selector,
        "tolerations": [one.wire() for one in template.tolerations or ()] or None,
        "topologySpreadConstraints": template.topology_spread_constraints,
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": [{"name": one} for one in spec.image.pull_secrets] or None,
    }
    pod |= {key: value for key, value in optional.items() if value is not None}
    metadata: Object = {"labels": {**(template.labels or {}), **all_labels}}
    annotations = dict(template.annotations or {})
    gist = json.dumps([metadata, annotations, pod], sort_keys=True).encode()
    annotations[TEMPLATE_ANNOTATION] = hashlib.sha256(gist).hexdigest()[:16]
    metadata["annotations"] = annotations
    made["spec"] = {
        "replicas": spec.replicas,
        "selector": {"matchLabels": selector(ROUTER_LABEL, name)},
        # a new router serves before an old one goes
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "template": {"metadata": metadata, "spec": pod},
    }
    return made


def _template_of(made: Object) -> str | None:
    """Which pod template a pod was made of, or a Deployment makes pods of."""
    meta = made["spec"]["template"]["metadata"] if "template" in made["spec"] else made["metadata"]
    template: str | None = (meta.get("annotations") or {}).get(TEMPLATE_ANNOTATION)
    return template


def _container(router: Object, spec: RouterSpec, program: Program) -> Object:
    meta = router["metadata"]
    resources = spec.resources.wire() or {"requests": {"cpu": "100m", "memory": "128Mi"}}
    return {
        "name": "router",
        "image": spec.image.reference if spec.image.repository else program.image,
        "imagePullPolicy": spec.image.pull_policy,
        "command": ["ollama-fleet-router"],
        "args": [
            f"--namespace={meta['namespace']}",
            f"--router={meta['name']}",
            f"--port={PORT}",
            f"--metrics-port={ADMIN_PORT}",
            f"--drain-timeout={DRAIN_SECONDS}",
            *(["--tls"] if spec.tls else []),
            *([f"--console={program.console}"] if spec.fleet_api else []),
        ],
        "ports": [
            {"name": "http", "containerPort": PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/healthz", 1, 60),
        "readinessProbe": _probe("/readyz", 2, 2),
        "livenessProbe": _probe("/healthz", 10, 6),
    }


def _probe(path: str, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def _verdict(
    spec: RouterSpec, observed: Observed, servers: Sequence[Server], template: str | None
) -> Verdict:
    if troubles := list(_troubles(spec, observed, template)):
        told = " ".join(dict.fromkeys(one.message for one in troubles))
        return Verdict.stuck(troubles[0].reason, told)
    ready_servers = sum(server.serving for server in servers)
    total = len(servers) + len(spec.backends)
    expected = any(
        selects(spec.select, node["metadata"]["name"], node["metadata"].get("labels") or {})
        for node in observed.ollamanodes
    )
    if total == 0 and not expected:
        return Verdict.stuck(
            Reason.NO_SERVERS,
            "no OllamaNode in this namespace matches spec.select, and there are no backends. "
            "Make one, or correct the selection.",
        )
    status = (observed.deployment or {}).get("status") or {}
    meta = (observed.deployment or {}).get("metadata") or {}
    current = status.get("observedGeneration") == meta.get("generation")
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    told = f"{ready} of {spec.replicas} routers ready, {ready_servers} of {total} servers"
    if observed.deployment is None or not current:
        return Verdict.underway(told)
    if min(ready, updated) < spec.replicas or status.get("replicas", 0) > spec.replicas:
        return Verdict.underway(told)
    return Verdict.good(told)


def _troubles(spec: RouterSpec, observed: Observed, template: str | None) -> Iterator[Trouble]:
    """All that waits on the user, what keeps the most from working first."""
    # a Deployment that keeps a broken pod of before is no longer the spec's fault
    for pod in (pod for pod in observed.pods if _template_of(pod) == template):
        if (trouble := pod_trouble(pod)) is not None:
            yield trouble
        elif (said := refused_by_scheduler(pod)) is not None:
            yield Trouble(
                Reason.UNSCHEDULABLE,
                f"{said} Lower spec.resources, correct spec.template, or add a machine.",
            )
    for one in ((observed.deployment or {}).get("status") or {}).get("conditions") or ():
        if one["type"] == "ReplicaFailure" and one["status"] == "True":
            yield Trouble(Reason.POD_REFUSED, f"{one.get('message', '')}. Correct the spec.")
    yield from observed.secret_troubles
    if (lacking := entrances.lacking(spec, observed.unread)) is not None:
        yield lacking


def _status(
    router: Object,
    spec: RouterSpec,
    observed: Observed,
    servers: Sequence[Server],
    verdict: Verdict,
    now: datetime,
) -> dict[str, Any]:
    meta = router["metadata"]
    previous = router.get("status") or {}
    generation = meta.get("generation", 1)
    deployed = (observed.deployment or {}).get("status") or {}
    ready_servers = [server for server in servers if server.serving]
    installed = {model for server in ready_servers for model in server.probe.installed}
    models = aliases.known(spec.models, installed)
    total = len(servers) + len(spec.backends)
    status = RouterStatus(
        observed_generation=generation,
        url=_url(router, spec, observed.service),
        replicas=deployed.get("replicas", 0),
        ready_replicas=deployed.get("readyReplicas", 0),
        ready=f"{deployed.get('readyReplicas', 0)}/{spec.replicas}",
        selector=f"{ROUTER_LABEL}={meta['name']}",
        servers=RouterServers(
            ready=len(ready_servers), total=total, summary=f"{len(ready_servers)}/{total}"
        ),
        models=models[:MODELS_SHOWN],
        model_count=len(models),
    ).wire()
    status["conditions"] = conditions(previous.get("conditions") or (), verdict, generation, now)
    return status


def _url(router: Object, spec: RouterSpec, service: Object | None) -> str:
    """Where clients reach it: by its Ingress, or the load balancer's address, or the Service's."""
    if (public := entrances.url(spec)) is not None:
        return public
    scheme = "https" if spec.tls else "http"
    for one in ((service or {}).get("status", {}).get("loadBalancer") or {}).get("ingress") or ():
        host = one.get("hostname") or one.get("ip")
        ports = [port["port"] for port in one.get("ports") or ()]
        if host:
            return f"{scheme}://{host}:{ports[0] if ports else spec.service.port}"
    meta = router["metadata"]
    return f"{scheme}://{meta['name']}.{meta['namespace']}.svc:{spec.service.port}"
