"""OpenSSL's own library, for what neither pyOpenSSL nor the openssl program can be made to do."""

from __future__ import annotations

import ctypes
import socket

from pytunnel.tls.settings import TlsSettings

_PEM = 1  # SSL_FILETYPE_PEM
_NOT_REQUESTED = 0  # SSL_KEY_UPDATE_NOT_REQUESTED


def update_keys(connected: socket.socket, files: TlsSettings, times: int, data: bytes) -> None:
    """Be a client that trusts everyone, takes new keys so many times, and then sends `data`; the peer may end it."""
    library = ctypes.CDLL("libssl.so.3")
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
    own = str(files.certificate).encode()
    assert library.SSL_CTX_use_certificate_file(context, own, _PEM) == 1
    assert library.SSL_CTX_use_PrivateKey_file(context, str(files.key or files.certificate).encode(), _PEM) == 1
    tls = ctypes.c_void_p(library.SSL_new(context))
    library.SSL_set_fd(tls, connected.fileno())
    assert library.SSL_connect(tls) == 1
    for _ in range(times):
        if library.SSL_key_update(tls, _NOT_REQUESTED) != 1 or library.SSL_do_handshake(tls) != 1:
            break
    library.SSL_write(tls, data, len(data))
    library.SSL_free(tls)
    library.SSL_CTX_free(context)
