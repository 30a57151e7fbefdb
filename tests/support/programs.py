"""Tests that need real programs: skipped where these are missing, but never in CI."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.tunnels import pytunnel, ran

AS_ANYONE = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
"""What to put before a command to run it as a user who is in no list."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """A mark for tests that run these programs; in CI a missing one makes them fail instead of being skipped."""
    missing = [program for program in programs if shutil.which(program) is None]
    absent = bool(missing) and os.environ.get("CI") != "true"
    return pytest.mark.skipif(absent, reason=f"{', '.join(missing)} not installed; run `make test`, which installs it")


def can_be_anyone() -> bool:
    """Whether pytunnel runs behind AS_ANYONE: this takes root, and a Python that other users may run."""
    return os.geteuid() == 0 and ran([*AS_ANYONE, *pytunnel("--version")]).returncode == 0
