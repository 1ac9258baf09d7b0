"""Ways to a router from outside the cluster: its Ingress and its HTTPRoute."""

from collections.abc import Iterable, Mapping
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.router import RouterSpec
from ollama_fleet.plan.result import Object, child
from ollama_fleet.plan.troubles import Trouble

NO_SUCH_KIND = "the cluster has no such kind"
_GATEWAY_API = (
    "Install the Gateway API, v1.2 or newer (https://gateway-api.sigs.k8s.io), and a controller "
    "for it"
)
_CHART = "Apply this version of the chart, which grants them"


def served(
    router: Object, spec: RouterSpec, labels: Mapping[str, str], unread: Mapping[str, str]
) -> list[Object]:
    """Those that the spec asks for, of kinds that the cluster has."""
    made = []
    if spec.ingress is not None and "Ingress" not in unread:
        made.append(_ingress(router, spec, labels))
    if spec.http_route is not None and "HTTPRoute" not in unread:
        made.append(_http_route(router, spec, labels))
    return made


def given_up(router: Object, spec: RouterSpec, live: Iterable[Object]) -> tuple[Object, ...]:
    """Those of the live ones that are the router's and that its spec asks for no more."""
    wanted = {"Ingress": spec.ingress, "HTTPRoute": spec.http_route}
    uid = router["metadata"]["uid"]
    return tuple(
        one
        for one in live
        if wanted[one["kind"]] is None
        and any(owner["uid"] == uid for owner in one["metadata"].get("ownerReferences") or ())
        and not one["metadata"].get("deletionTimestamp")
    )


def lacking(spec: RouterSpec, unread: Mapping[str, str]) -> Trouble | None:
    """What is asked for and not to be had in this cluster."""
    for kind, field, asked in (
        ("HTTPRoute", "httpRoute", spec.http_route),
        ("Ingress", "ingress", spec.ingress),
    ):
        if asked is None or kind not in unread:
            continue
        why = unread[kind]
        remedy = _GATEWAY_API if kind == "HTTPRoute" and why == NO_SUCH_KIND else _CHART
        return Trouble(
            Reason.UNSUPPORTED,
            f"spec.{field} needs {kind} objects, which cannot be had: {why}. {remedy}, or remove "
            f"spec.{field}.",
        )
    return None


def url(spec: RouterSpec) -> str | None:
    """Where clients reach it by its Ingress; None where that names no one host."""
    if spec.ingress is None or spec.ingress.host.startswith("*"):
        return None
    return f"http{'s' if spec.ingress.tls_secret_name else ''}://{spec.ingress.host}"


def _ingress(router: Object, spec: RouterSpec, labels: Mapping[str, str]) -> Object:
    assert spec.ingress is not None
    given = spec.ingress
    name = router["metadata"]["name"]
    made = child(router, "networking.k8s.io/v1", "Ingress", f"{name}-router", labels)
    if given.annotations:
        made["metadata"]["annotations"] = dict(given.annotations)
    service = {"name": name, "port": {"number": spec.service.port}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    wanted: dict[str, Any] = {"rules": [{"host": given.host, "http": {"paths": [path]}}]}
    if given.class_name is not None:
        wanted["ingressClassName"] = given.class_name
    if given.tls_secret_name is not None:
        wanted["tls"] = [{"hosts": [given.host], "secretName": given.tls_secret_name}]
    made["spec"] = wanted
    return made


def _http_route(router: Object, spec: RouterSpec, labels: Mapping[str, str]) -> Object:
    assert spec.http_route is not None
    given = spec.http_route
    name = router["metadata"]["name"]
    made = child(router, "gateway.networking.k8s.io/v1", "HTTPRoute", f"{name}-router", labels)
    wanted: dict[str, Any] = {
        "parentRefs": [parent.wire() for parent in given.parent_refs],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": name, "port": spec.service.port}],
                # none: an answer takes as long as it takes, and many Gateways would cut it at 15 s
                "timeouts": {"request": "0s"},
            }
        ],
    }
    if given.hostnames:
        wanted["hostnames"] = list(given.hostnames)
    made["spec"] = wanted
    return made
