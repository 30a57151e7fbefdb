"""One process, or several, that run tunnels from a plan until a signal ends them."""
