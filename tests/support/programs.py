"""Tests that need real programs: skipped where these are missing, but never in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(*programs: str) -> pytest.MarkDecorator:
    """A mark for tests that run these programs; in CI a missing one makes them fail instead of being skipped."""
    missing = [program for program in programs if shutil.which(program) is None]
    absent = bool(missing) and os.environ.get("CI") != "true"
    return pytest.mark.skipif(absent, reason=f"{', '.join(missing)} not installed; run `make test`, which installs it")
