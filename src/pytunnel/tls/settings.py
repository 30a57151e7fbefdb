"""What one end of a tunnel is told about TLS, as one value; nothing is read from disk here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Files and rules of one end.

    `key` None: the key is in `certificate`. `ca` is a file of one or many certificates, or a directory of them;
    `ca_directory` another such directory besides. `revoked` are files or directories of revocation lists (CRL).
    `verify` False trusts everyone, `verify_name` False everyone whom the CA vouches for. `peer_certificate` is a file
    with the one certificate that the peer must present; it is trusted without a CA.
    `peer_names`: names a peer may carry instead of the target's own; empty means the target's host when dialling,
    and any peer that the CA vouches for when listening. `ciphers` is an OpenSSL cipher list for TLS 1.2, or TLS 1.3
    cipher suites, or both. `server_name` is what SNI announces: None for the target's host, "" for nothing.
    `minimum`/`maximum` are "1.2" or "1.3".
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    ca_directory: Path | None = None
    revoked: tuple[Path, ...] = ()
    verify: bool = True
    verify_name: bool = True
    peer_certificate: Path | None = None
    peer_names: tuple[str, ...] = ()
    ciphers: str | None = None
    minimum: str = "1.2"
    maximum: str | None = None
    dh_parameters: Path | None = None
    server_name: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are named, and directories of such."""
        one = (self.certificate, self.key, self.ca, self.ca_directory, self.peer_certificate, self.dh_parameters)
        return (*(path for path in one if path is not None), *self.revoked)
