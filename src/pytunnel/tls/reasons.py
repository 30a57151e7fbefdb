"""Why a TLS connection failed: OpenSSL's reasons in the words of the person who has to mend it."""

from __future__ import annotations

from pytunnel.tls.errors import Incompatible, TlsError


def openssl_reason(error: BaseException) -> str:
    """OpenSSL's own words from its error queue, without the parts that only OpenSSL's authors can use."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return ", ".join(entry[2] or "unknown error" for entry in queue)
    return str(error) or type(error).__name__


def failed(place: str, reason: str) -> str:
    """The words for any failure of a connection with the peer at `place`."""
    return f"the TLS connection with {place} failed: {reason}"


def stream_error(place: str, reason: str, *, heard: bool) -> TlsError:
    """The error for OpenSSL's reason; `heard` is whether any data has come from the peer."""
    return incompatible(place, reason, heard=heard) or TlsError(failed(place, reason))


def incompatible(place: str, reason: str, *, heard: bool) -> Incompatible | None:
    """The error where the reason is one that lasts, so that trying again is in vain."""
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
        return Incompatible(f"{place} did not accept our certificate ({reason}); its log says why")
    if "alert internal error" in reason and not heard:  # OpenSSL's alert for a name that its application refuses
        return Incompatible(f"{place} did not accept our certificate, perhaps its name ({reason}); its log says why")
    if heard:
        return None
    if "wrong version number" in reason or "http request" in reason or "packet length too long" in reason:
        return Incompatible(f"{place} does not speak TLS here ({reason}); is it the right port?")
    if "no shared cipher" in reason or "protocol version" in reason or "unsupported protocol" in reason:
        return Incompatible(f"{place} and this end have no TLS version or cipher in common ({reason})")
    if "alert handshake failure" in reason:
        words = "refused the TLS handshake, perhaps because no cipher is in common"
        return Incompatible(f"{place} {words} ({reason}); its log says why")
    return None
