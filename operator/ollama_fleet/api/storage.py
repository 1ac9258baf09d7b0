"""Where the servers of an OllamaNode keep their models."""

from pydantic import Field

from ollama_fleet.api.model import HostPath, Model, Name, rule, rules
from ollama_fleet.api.quantity import Quantity

SYSTEM_FOLDERS = (
    *("/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root"),
    *("/run", "/sbin", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/run"),  # noqa: S108 (named to be refused)
)
"""What no store may be, as it is given to the servers' user."""


class Storage(Model):
    """Where models are kept: one of a volume per server, a folder, a claim, or nowhere lasting."""

    model_config = rules(
        rule(
            "[has(self.size) || has(self.storageClassName), has(self.hostPath), "
            "has(self.existingClaim), has(self.ephemeral) && self.ephemeral]"
            ".filter(x, x).size() <= 1",
            "choose one kind of storage: size (with storageClassName), hostPath, existingClaim "
            "or ephemeral: true",
        ),
        rule(
            "!has(self.storageClassName) || has(self.size)",
            "storageClassName is for volumes of a size: write size, such as 200Gi",
            ".storageClassName",
        ),
        rule(
            f"!has(self.hostPath) || !(self.hostPath in {list(SYSTEM_FOLDERS)})",
            "hostPath is given to the servers' user, and this folder is the system's: write one "
            "of its own, such as /var/lib/ollama-fleet",
            ".hostPath",
        ),
    )
    size: Quantity | None = Field(
        default=None,
        description="Of each server's volume, 100Gi where no storage is given. A larger one makes "
        "the volumes grow where their StorageClass allows it; they never shrink. They stay when "
        "servers are scaled away or the OllamaNode is deleted, and servers of the same name find "
        "their models there again.",
    )
    storage_class_name: Name | None = Field(
        default=None, description="Of these volumes; absent: the cluster's default."
    )
    host_path: HostPath | None = Field(
        default=None,
        description="A folder on the machine, kept when the pod goes; a pod on another machine "
        "begins anew. perNode servers use it as it is, others a folder each below, by namespace "
        "and pod. Where it is root's, as when Kubernetes makes it, it is given to user 65532 by "
        "an init container, unless template.securityContext names a runAsUser. Namespaces of the "
        "Pod Security levels baseline and restricted refuse it.",
    )
    existing_claim: Name | None = Field(
        default=None,
        description="A PersistentVolumeClaim that is there, for one server of one OllamaNode.",
    )
    ephemeral: bool = Field(
        default=False,
        description="Models are gone with the pod, and pulled again. perNode servers without "
        "hostPath are so too.",
    )
