"""pytunnel: Galera state snapshot transfers, and any TCP service, inside mutual TLS."""

__version__ = "0.1.0"
