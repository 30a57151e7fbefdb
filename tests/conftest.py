"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes, or its making, says how busy the machine is, and decides nothing. Two runs on the same
# commit try the same examples; to look for new ones: python -m pytest --hypothesis-profile=explore
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=1000)
settings.register_profile("pytunnel", settings.get_profile("explore"), derandomize=True, max_examples=100)
settings.load_profile("pytunnel")
