"""The kinds of Kubernetes objects the programs read and write."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as the API server sends it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object: enough to build the address of any of its objects."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As an object's `apiVersion` says it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """The API path of the collection, an object, or one of its subresources."""
        prefix = f"/apis/{self.group}" if self.group else "/api"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        path = f"{prefix}/{self.version}{scope}/{self.plural}"
        if name:
            path += f"/{name}"
        return f"{path}/{sub}" if sub else path

    def __str__(self) -> str:
        return self.kind


POD = Kind("", "v1", "pods", "Pod")
NODE = Kind("", "v1", "nodes", "Node", namespaced=False)
NAMESPACE = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICE = Kind("", "v1", "services", "Service")
SERVICE_ACCOUNT = Kind("", "v1", "serviceaccounts", "ServiceAccount")
CONFIG_MAP = Kind("", "v1", "configmaps", "ConfigMap")
SECRET = Kind("", "v1", "secrets", "Secret")
PERSISTENT_VOLUME_CLAIM = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
STATEFUL_SET = Kind("apps", "v1", "statefulsets", "StatefulSet")
DAEMON_SET = Kind("apps", "v1", "daemonsets", "DaemonSet")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
ROLE = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
INGRESS = Kind("networking.k8s.io", "v1", "ingresses", "Ingress")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
EVENT = Kind("events.k8s.io", "v1", "events", "Event")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")
RESOURCE_SLICE = Kind("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False)
RESOURCE_CLAIM = Kind("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
RESOURCE_CLAIM_TEMPLATE = Kind(
    "resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate"
)
POD_METRICS = Kind("metrics.k8s.io", "v1beta1", "pods", "PodMetrics")
TOKEN_REVIEW = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
SUBJECT_ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
OLLAMA_NODE = Kind("ollamafleet.dev", "v1alpha1", "ollamanodes", "OllamaNode")
MODEL_DISTRIBUTION = Kind("ollamafleet.dev", "v1alpha1", "modeldistributions", "ModelDistribution")
ROUTER = Kind("ollamafleet.dev", "v1alpha1", "routers", "Router")

KINDS = {
    (kind.api_version, kind.kind): kind
    for kind in (
        POD,
        NODE,
        NAMESPACE,
        SERVICE,
        SERVICE_ACCOUNT,
        CONFIG_MAP,
        SECRET,
        PERSISTENT_VOLUME_CLAIM,
        STORAGE_CLASS,
        STATEFUL_SET,
        DAEMON_SET,
        DEPLOYMENT,
        ROLE,
        ROLE_BINDING,
        POD_DISRUPTION_BUDGET,
        NETWORK_POLICY,
        INGRESS,
        HTTP_ROUTE,
        EVENT,
        LEASE,
        RESOURCE_SLICE,
        RESOURCE_CLAIM,
        RESOURCE_CLAIM_TEMPLATE,
        POD_METRICS,
        TOKEN_REVIEW,
        SUBJECT_ACCESS_REVIEW,
        CUSTOM_RESOURCE_DEFINITION,
        OLLAMA_NODE,
        MODEL_DISTRIBUTION,
        ROUTER,
    )
}
"""Every known kind by (apiVersion, kind)."""


def kind_of(obj: Object) -> Kind:
    """The kind of an object; ValueError where it is none of ours."""
    key = (obj.get("apiVersion", ""), obj.get("kind", ""))
    try:
        return KINDS[key]
    except KeyError:
        raise ValueError(f"unknown kind {key[1]!r} of apiVersion {key[0]!r}") from None
