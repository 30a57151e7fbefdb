"""Socat's words for sockets and TLS, as `sockopt` and `--sockopt` take them."""
