"""How each program of the control plane is started: its flags, and the files they name."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.certificates import Authority, KeyPair
from dev.cluster.kubeconfig import certificate_user, write_kubeconfig

LOOPBACK = "127.0.0.1"
_SERVICES = "10.96.0.0/16"

# Who asked for what, and was it denied: of pods' service accounts, Kubernetes' own left out; with
# the bodies that ask for more than their verb, as an owner's finalizers. A watch is written down as
# it begins, since it may never end. And by whomever: every role that is granted, and every Router
# and namespace that comes or goes, for with it roles may go before their pods.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver"]
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
- level: RequestResponse
  verbs: [create, update, patch]
  resources: [{group: rbac.authorization.k8s.io}]
  omitStages: [ResponseStarted]
- level: Request
  userGroups: ["system:serviceaccounts"]
  verbs: [create, update, patch]
  resources: [{group: apps}]
  omitStages: [ResponseStarted]
- level: Metadata
  verbs: [create, patch, delete, deletecollection]
  resources:
  - {group: ollamafleet.dev, resources: [routers]}
  - {group: "", resources: [namespaces]}
  omitStages: [ResponseStarted]
- level: Metadata
  userGroups: ["system:serviceaccounts"]
  verbs: [watch]
  omitStages: [ResponseComplete]
- level: Metadata
  userGroups: ["system:serviceaccounts"]
  omitStages: [ResponseStarted]
- level: None
"""

# A cluster takes one block 127.X.0.0/16 for its pods, and the machine agent 127.X.0.1 in it.
AGENT_ADDRESSES = tuple(f"127.{block}.0.1" for block in range(64, 128))


@dataclass(frozen=True)
class Layout:
    """Where one cluster's files lie, and on which ports it listens."""

    directory: Path
    etcd_port: int
    etcd_peer_port: int
    api_port: int

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{LOOPBACK}:{self.api_port}"

    @property
    def certificates(self) -> Path:
        """The directory of all keys and certificates."""
        return self.directory / "certificates"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def logs(self) -> Path:
        """The directory of the programs' logs."""
        return self.directory / "logs"

    @property
    def audit_policy(self) -> Path:
        """What the API server writes down in logs/audit.log."""
        return self.directory / "audit-policy.yaml"


def prepare(directory: Path) -> Layout:
    """Choose free ports and write certificates and kubeconfigs."""
    layout = Layout(directory, *free_ports(3))
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.audit_policy.write_text(_AUDIT_POLICY)
    authority = Authority(layout.certificates)
    hosts = (LOOPBACK, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    authority.issue("kubelet-client", "kube-apiserver-kubelet", group="system:masters")
    authority.issue("kubelet", "system:machines", group="system:nodes", hosts=AGENT_ADDRESSES)
    authority.signing_key("service-accounts")
    users = {
        layout.kubeconfig: authority.issue("admin", "admin", group="system:masters"),
        _kubeconfig(layout, "controller-manager"): authority.issue(
            "controller-manager", "system:kube-controller-manager"
        ),
        _kubeconfig(layout, "scheduler"): authority.issue("scheduler", "system:kube-scheduler"),
    }
    for path, pair in users.items():
        write_kubeconfig(path, layout.url, authority.certificate, user=certificate_user(pair))
    return layout


def etcd(layout: Layout) -> list[str]:
    """Flags for etcd: durable enough for a cluster that is thrown away.

    It asks for no certificate, so whoever has an account on this machine can read the cluster.
    """
    client, peer = (
        f"http://{LOOPBACK}:{port}" for port in (layout.etcd_port, layout.etcd_peer_port)
    )
    return [
        "--name=local",
        f"--data-dir={layout.directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(layout: Layout) -> list[str]:
    """Flags for the API server, with RBAC in force."""
    certificates = layout.certificates
    return [
        f"--etcd-servers=http://{LOOPBACK}:{layout.etcd_port}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--secure-port={layout.api_port}",
        f"--tls-cert-file={certificates / 'apiserver.crt'}",
        f"--tls-private-key-file={certificates / 'apiserver.key'}",
        f"--client-ca-file={certificates / 'ca.crt'}",
        f"--kubelet-certificate-authority={certificates / 'ca.crt'}",
        f"--kubelet-client-certificate={certificates / 'kubelet-client.crt'}",
        f"--kubelet-client-key={certificates / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        # what aggregated APIs see: the machines' agent serves metrics to whom it serves logs
        f"--proxy-client-cert-file={certificates / 'kubelet-client.crt'}",
        f"--proxy-client-key-file={certificates / 'kubelet-client.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificates / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={certificates / 'service-accounts.key'}",
        "--authorization-mode=Node,RBAC",
        # some distributions have it on: who blocks an owner's deletion must be let to
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        f"--service-cluster-ip-range={_SERVICES}",
        "--endpoint-reconciler-type=none",
        "--allow-privileged=true",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.logs / 'audit.log'}",
        "--audit-log-maxsize=10000",
        "--profiling=false",
    ]


def controller_manager(layout: Layout) -> list[str]:
    """Flags for the controllers; a silent machine counts as lost after 20 s."""
    certificates = layout.certificates
    return [
        f"--kubeconfig={_kubeconfig(layout, 'controller-manager')}",
        f"--service-account-private-key-file={certificates / 'service-accounts.key'}",
        f"--root-ca-file={certificates / 'ca.crt'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--profiling=false",
    ]


def scheduler(layout: Layout) -> list[str]:
    """Flags for the scheduler."""
    kubeconfig = _kubeconfig(layout, "scheduler")
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def admin(layout: Layout) -> KeyPair:
    """The administrator's certificate."""
    return KeyPair(layout.certificates / "admin.crt", layout.certificates / "admin.key")


def free_ports(count: int) -> tuple[int, ...]:
    """Ports nobody listens on; all are held at once, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return tuple(each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()


def _kubeconfig(layout: Layout, program: str) -> Path:
    return layout.certificates / f"{program}.kubeconfig"
