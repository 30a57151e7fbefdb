"""Accept, secure, dial, relay: what happens to one connection, whatever carries it."""
