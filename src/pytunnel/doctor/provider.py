"""What Galera's provider, which replicates and sends IST, is told about TLS."""

from __future__ import annotations

from dataclasses import dataclass

from pytunnel.sst.galera import provider_options
from pytunnel.sst.optionfile import OptionGroup

_FALSE = ("0", "no", "false", "off")


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """The options around TLS as they are written; None: not set."""

    ssl: str | None = None
    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    dynamic: str | None = None
    ist_address: str | None = None

    @property
    def uses_tls(self) -> bool:
        """Whether connections are made by TLS: a key or certificate is enough, unless socket.ssl says no."""
        if self.ssl is not None:
            return is_true(self.ssl)
        return self.certificate is not None or self.key is not None

    @property
    def accepts_plain(self) -> bool:
        """Whether connections without TLS are made besides (socket.dynamic)."""
        return self.dynamic is not None and is_true(self.dynamic)


_FIELDS = {
    "ssl": "socket.ssl",
    "certificate": "socket.ssl_cert",
    "key": "socket.ssl_key",
    "ca": "socket.ssl_ca",
    "dynamic": "socket.dynamic",
    "ist_address": "ist.recv_addr",
}


def read_provider_options(mysqld: OptionGroup) -> ProviderOptions:
    """The options of the server's groups."""
    options = provider_options(mysqld)
    return ProviderOptions(**{field: options.get(key) or None for field, key in _FIELDS.items()})


def is_true(text: str) -> bool:
    """Whether Galera takes the text for a yes."""
    return text.lower() not in _FALSE
