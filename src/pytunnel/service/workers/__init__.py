"""A service in several processes: one that listens and supervises, and workers that share its connections."""
