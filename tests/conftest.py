"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.ends import Ends

# How long an example takes, or its making, says how busy the machine is, and decides nothing. Two runs on the same
# commit try the same examples; to look for new ones: python -m pytest --hypothesis-profile=explore
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=1000)
settings.register_profile("pytunnel", settings.get_profile("explore"), derandomize=True, max_examples=100)
settings.load_profile("pytunnel")


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    """Two ends that trust each other, and their tunnels for the duration of the test."""
    with ExitStack() as cleanup:
        yield Ends.make(tmp_path, cleanup)
