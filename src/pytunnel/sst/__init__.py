"""The Galera state snapshot transfer: both roles, and the formats and protocols they need."""
