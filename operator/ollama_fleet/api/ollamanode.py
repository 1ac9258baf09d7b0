"""OllamaNode: a set of identical Ollama servers."""

from typing import Annotated, Literal

from pydantic import Field

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.model import (
    CA_NEEDS_TLS,
    EnvVar,
    Image,
    Model,
    Name,
    PodTemplate,
    Repository,
    ResourceName,
    Resources,
    SecretRef,
    Tag,
    Url,
    rule,
    rules,
)
from ollama_fleet.api.ollamanodestatus import OllamaNodeStatus
from ollama_fleet.api.quantity import Duration, IntOrPercent, KeepAlive, Quantity
from ollama_fleet.api.storage import Storage

DEFAULT_TAG = "0.35.1"
PORT = 11434

MANAGED_ENV = {
    "HOME": "the operator sets it to where storage is mounted",
    "POD_NAME": "the operator sets it to the pod's name",
    "POD_NAMESPACE": "the operator sets it to the pod's namespace",
    "OLLAMA_HOST": "the operator sets it, and clients use a Router",
    "OLLAMA_NO_CLOUD": "the operator sets it, so that no prompt leaves the fleet",
    "OLLAMA_MODELS": "models are kept where storage says",
    "OLLAMA_NUM_PARALLEL": "write server.parallel instead",
    "OLLAMA_CONTEXT_LENGTH": "write server.contextLength instead",
    "OLLAMA_MAX_LOADED_MODELS": "write server.maxLoadedModels instead",
    "OLLAMA_MAX_QUEUE": "write server.maxQueue instead",
    "OLLAMA_KEEP_ALIVE": "write server.keepAlive instead",
    "OLLAMA_KV_CACHE_TYPE": "write server.kvCacheType instead",
    "OLLAMA_FLASH_ATTENTION": "write server.flashAttention instead",
    "OLLAMA_LOAD_TIMEOUT": "write server.loadTimeout instead",
    "NVIDIA_VISIBLE_DEVICES": "a server has the GPUs that Kubernetes gives it; write gpu instead",
}


class PerNode(Model):
    """One server on every Kubernetes node the template matches."""


class External(Model):
    """A server that runs elsewhere: probed, pulled to and routed to, never created."""

    model_config = rules(CA_NEEDS_TLS)
    url: Url = Field(description="Where it answers, such as http://gpu-box.lan:11434.")
    headers_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose entries are sent as headers, such as Authorization; a "
        "changed one is taken over within 30 s.",
    )
    ca_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose ca.crt (PEM) signs the server's certificate; absent: the "
        "authorities that every system trusts.",
    )

    @property
    def secrets(self) -> SecretRefs:
        """The Secrets it is reached by."""
        headers, ca = self.headers_secret_ref, self.ca_secret_ref
        return SecretRefs(headers.name if headers else None, ca.name if ca else None)


class ServerImage(Image):
    """The Ollama image; for gpu.vendor amd the -rocm tag is used by itself."""

    repository: Repository = Field(
        default="ollama/ollama", description="Registry and path, without a tag."
    )
    tag: Tag = Field(default=DEFAULT_TAG, description="The release of Ollama.")


class Gpu(Model):
    """The GPUs of each server."""

    model_config = rules(
        rule(
            "!has(self.vendor) || self.vendor != 'none' || "
            "(!has(self.count) && !has(self.resourceName) && !has(self.allocation) "
            "&& !has(self.deviceClassName))",
            "vendor none means no GPU: remove count, resourceName, allocation and "
            "deviceClassName, or set vendor to nvidia or amd",
            ".vendor",
        ),
        rule(
            "!has(self.resourceName) || !has(self.allocation) || "
            "self.allocation != 'ResourceClaim'",
            "resourceName is for allocation DevicePlugin: with ResourceClaim write "
            "deviceClassName instead",
            ".resourceName",
        ),
        rule(
            "!has(self.deviceClassName) || "
            "(has(self.allocation) && self.allocation == 'ResourceClaim')",
            "deviceClassName is for ResourceClaim: set allocation to ResourceClaim, or write "
            "resourceName instead",
            ".deviceClassName",
        ),
    )
    vendor: Literal["nvidia", "amd", "none"] = Field(
        default="nvidia", description="Whose GPUs; none: the CPU."
    )
    count: int = Field(default=1, ge=1, le=64, description="GPUs per server.")
    memory: Quantity | None = Field(
        default=None,
        description="Memory per GPU: what a machine must have; for external or unlabelled "
        "machines, what it has.",
    )
    resource_name: ResourceName | None = Field(
        default=None,
        description="The extended resource to request, such as nvidia.com/mig-1g.10gb. "
        "Defaults to nvidia.com/gpu or amd.com/gpu.",
    )
    allocation: Literal["DevicePlugin", "ResourceClaim"] = Field(
        default="DevicePlugin", description="How Kubernetes hands them out."
    )
    device_class_name: Name | None = Field(
        default=None, description="With ResourceClaim. Defaults to gpu.<vendor>.com."
    )

    @property
    def resource(self) -> str:
        """The extended resource each server asks for."""
        return self.resource_name or f"{self.vendor}.com/gpu"

    @property
    def driver(self) -> str:
        """The DRA driver that publishes the vendor's GPUs."""
        return f"gpu.{self.vendor}.com"

    @property
    def device_class(self) -> str:
        """The DeviceClass each server's claim asks for."""
        return self.device_class_name or self.driver


class ServerSettings(Model):
    """How each Ollama process runs."""

    model_config = rules(
        rule(
            "!has(self.kvCacheType) || self.kvCacheType == 'f16' || !has(self.flashAttention) "
            "|| self.flashAttention",
            "a quantised KV cache needs flash attention: set flashAttention to true or "
            "kvCacheType to f16",
            ".kvCacheType",
        ),
        *(
            rule(
                f"!has(self.env) || !self.env.exists(e, e.name == '{name}')",
                f"{name} cannot be set in env: {remedy}",
                ".env",
            )
            for name, remedy in MANAGED_ENV.items()
        ),
    )
    parallel: int = Field(default=1, ge=1, le=256, description="Requests per model at a time.")
    context_length: int = Field(
        default=8192, ge=256, le=4_194_304, description="Tokens of context per request."
    )
    max_loaded_models: int = Field(default=1, ge=1, le=64, description="Models in memory at once.")
    max_queue: int = Field(default=64, ge=1, le=65536, description="Requests that may wait in it.")
    keep_alive: KeepAlive = Field(
        default="30m", description="How long an idle model stays in memory; -1: for ever."
    )
    kv_cache_type: Literal["f16", "q8_0", "q4_0"] = Field(
        default="f16", description="Of the context; q8_0 takes half, q4_0 a quarter of the memory."
    )
    flash_attention: bool = Field(
        default=True, description="Faster, and needed for a quantised cache."
    )
    load_timeout: Duration = Field(
        default="10m", description="How long a model may load; 0s: for ever."
    )
    env: Annotated[
        list[EnvVar],
        Field(
            max_length=64,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = Field(default=[], description="More of Ollama's variables, such as OLLAMA_DEBUG.")


class Requirements(Model):
    """What a server must have before models go there. One that lacks it is Unfit: nothing is pulled
    to it, and what it has stays and is served."""

    memory: Quantity | None = Field(
        default=None,
        description="Memory for models; 97 % of it counts, as cards report less. Unknown memory "
        "does not meet it.",
    )
    disk: Quantity | None = Field(
        default=None,
        description="What the store can hold in all, not what is free of it now: the volume's "
        "capacity, or the ephemeral storage of the machine. A folder of the machine and a server "
        "elsewhere tell no size, and do not meet it.",
    )


class Update(Model):
    """How changes reach running servers."""

    max_unavailable: IntOrPercent = Field(
        default=1, description="Servers that may be away at once: a count or a percentage."
    )
    drain_timeout: Duration = Field(
        default="5m",
        description="How long a server that stops may finish its streams, at least 5s; for those "
        "started since it was set.",
    )


_CLASS = "has({0}.storage) && has({0}.storage.storageClassName) ? {0}.storage.storageClassName : ''"
_SHARED = (
    "{0}.?storage.?hostPath.hasValue() || {0}.?storage.?existingClaim.hasValue() || "
    "{0}.?storage.?ephemeral.orValue(false)"
)
_ONLY_PODS = ("image", "storage", "template", "resources", "update")


class OllamaNodeSpec(Model):
    """What is wanted of the servers."""

    model_config = rules(
        rule(
            "[has(self.replicas), has(self.perNode), has(self.external)].exists_one(x, x)",
            "write exactly one of replicas (a number of pods), perNode: {} (a pod on every "
            "matching machine) and external (a server that runs elsewhere)",
        ),
        rule(
            "has(self.perNode) == has(oldSelf.perNode) && "
            "has(self.external) == has(oldSelf.external)",
            "servers cannot change between replicas, perNode and external: make a new OllamaNode",
            reason="FieldValueForbidden",
        ),
        *(
            rule(
                f"!has(self.external) || !has(self.{field})",
                f"an external server is not created by the operator: remove {field}",
                f".{field}",
                reason="FieldValueForbidden",
            )
            for field in _ONLY_PODS
        ),
        rule(
            "!has(self.perNode) || !has(self.storage) || !has(self.storage.size)",
            "a DaemonSet has no volume per server: write storage.hostPath (kept) or "
            "storage.ephemeral: true (pulled again)",
            ".storage",
        ),
        rule(
            "!has(self.storage) || !has(self.storage.existingClaim) || "
            "(has(self.replicas) && self.replicas <= 1)",
            "existingClaim is one store, and a store has one writer: set replicas to 1, or "
            "write size for a volume per server",
            ".storage",
        ),
        rule(
            f"({_CLASS.format('self')}) == ({_CLASS.format('oldSelf')})",
            "storageClassName cannot change, as volumes cannot move: make a new OllamaNode",
            ".storage",
            reason="FieldValueForbidden",
        ),
        rule(
            f"!has(self.replicas) || !has(oldSelf.replicas) || "
            f"({_SHARED.format('self')}) == ({_SHARED.format('oldSelf')})",
            "storage cannot change between a volume per server (size) and hostPath, existingClaim "
            "or ephemeral: make a new OllamaNode",
            ".storage",
            reason="FieldValueForbidden",
        ),
        rule(
            "has(self.external) || !has(self.gpu) || !has(self.gpu.vendor) || "
            "self.gpu.vendor != 'none' || !has(self.gpu.memory)",
            "vendor none means no GPU, so gpu.memory says nothing: set resources.limits.memory, "
            "which is what a CPU server has",
            ".gpu",
        ),
    )
    replicas: int | None = Field(
        default=None, ge=0, le=1000, description="Servers in a StatefulSet, a volume each."
    )
    per_node: PerNode | None = Field(
        default=None, description="A server on every machine the template matches."
    )
    external: External | None = Field(default=None, description="A server that runs elsewhere.")
    image: ServerImage = ServerImage()
    gpu: Gpu = Gpu()
    server: ServerSettings = ServerSettings()
    storage: Storage = Storage()
    resources: Resources = Resources()
    requirements: Requirements = Requirements()
    weight: int = Field(
        default=100,
        ge=0,
        le=10000,
        description="Share under the Weighted strategy; 0: only if nothing else can.",
    )
    cordoned: bool = Field(
        default=False, description="No new requests and no new pulls; running streams finish."
    )
    update: Update = Update()
    template: PodTemplate = PodTemplate()


_SIZE = "{}.spec.?storage.?size"
_GIVEN = "oldSelf.?status.?volumeSize.hasValue()"
_AT_LEAST = "quantity(string(self.spec.storage.size)).compareTo(quantity(string({}))) >= 0"


class OllamaNode(Model):
    """A set of identical Ollama servers: pods with GPUs, one per machine, or elsewhere."""

    model_config = rules(
        rule(
            f"!{_SIZE.format('self')}.hasValue() || !isQuantity(string(self.spec.storage.size)) || "
            f"({_SIZE.format('oldSelf')}.hasValue() ? "
            f"{_AT_LEAST.format('oldSelf.spec.storage.size')} : !{_GIVEN}) || "
            f"({_GIVEN} && {_AT_LEAST.format('oldSelf.status.volumeSize')})",
            "size cannot shrink, as volumes only grow: write at least status.volumeSize, which is "
            "what they have",
            ".spec.storage.size",
        )
    )
    spec: OllamaNodeSpec
    status: OllamaNodeStatus | None = None
