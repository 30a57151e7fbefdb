"""TLS: credentials, contexts, names and the stream itself."""
