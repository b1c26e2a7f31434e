"""Certificates, keys and kubeconfigs of a local cluster: an authority of its own, nothing shared."""

import base64
import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from import_local.errors import LocalError

CONTEXT = "import-local"
_AUTHORITY_LIFE = datetime.timedelta(days=3650)
_CERTIFICATE_LIFE = datetime.timedelta(days=365)


def write_private(path: Path, content: bytes | str) -> Path:
    """Write a file that only its owner can read; readers see the old or the new content, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    draft.replace(path)
    return path


@dataclass(frozen=True)
class KeyPair:
    """Files of a certificate and its private key, both PEM."""

    certificate: Path
    key: Path


class CertificateAuthority:
    """An authority whose certificate and key are kept in a folder as `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._files = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
        if not self._files.certificate.exists():
            self._create(name)
        self._certificate = x509.load_pem_x509_certificate(self._files.certificate.read_bytes())
        self._key = _load_key(self._files.key)

    @property
    def certificate(self) -> Path:
        """File with the authority's own certificate."""
        return self._files.certificate

    def issue(
        self, name: str, *, common_name: str, organizations: Sequence[str] = (), hosts: Sequence[str] = ()
    ) -> KeyPair:
        """Issue a certificate for client and server use into `<name>.crt` and `<name>.key`.

        Kubernetes reads the user from `common_name` and the groups from `organizations`.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        builder = _builder(x509.Name(subject), self._certificate.subject, key.public_key(), _CERTIFICATE_LIFE)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        files = KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        write_private(files.key, _key_pem(key))
        write_private(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return files

    def _create(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"import-local {name}")])
        builder = _builder(subject, subject, key.public_key(), _AUTHORITY_LIFE)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        # The certificate last: it is what says that both exist.
        write_private(self._files.key, _key_pem(key))
        write_private(self._files.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def ensure_signing_key(folder: Path, name: str) -> KeyPair:
    """Create, unless it exists, the key that signs service-account tokens; `certificate` is its public half."""
    files = KeyPair(folder / f"{name}.pub", folder / f"{name}.key")
    if not files.certificate.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_private(files.key, _key_pem(key))
        write_private(files.certificate, public)
    return files


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    authority: Path,
    user: str,
    credentials: KeyPair | str,
    namespace: str = "default",
) -> Path:
    """Write a kubeconfig whose only context is `import-local`; `credentials` may also be a bearer token."""
    if isinstance(credentials, KeyPair):
        identity = {
            "client-certificate-data": _base64(credentials.certificate),
            "client-key-data": _base64(credentials.key),
        }
    else:
        identity = {"token": credentials}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": _base64(authority)}}
        ],
        "users": [{"name": user, "user": identity}],
        "contexts": [
            {"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user, "namespace": namespace}}
        ],
        "current-context": CONTEXT,
    }
    return write_private(path, yaml.safe_dump(content, sort_keys=False))


@dataclass(frozen=True)
class ClusterAddress:
    """What identifies the cluster of a kubeconfig's current context."""

    server: str
    authority: str  # base64 of its certificate; empty when the kubeconfig names none


def read_cluster(kubeconfig: Path) -> ClusterAddress:
    """Read where a kubeconfig's current context leads; LocalError when the file has no such context."""
    try:
        content = yaml.safe_load(kubeconfig.read_text())
        contexts = {entry["name"]: entry["context"] for entry in content["contexts"]}
        clusters = {entry["name"]: entry["cluster"] for entry in content["clusters"]}
        cluster = clusters[contexts[content["current-context"]]["cluster"]]
        return ClusterAddress(cluster["server"], cluster.get("certificate-authority-data", ""))
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise LocalError(f"{kubeconfig} is not a kubeconfig with a usable current context") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + life)
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} holds no elliptic-curve key")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
