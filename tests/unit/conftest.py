"""What several unit tests share."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def own_logging() -> Iterator[logging.Logger]:
    """pytunnel's logger; what a test sets on it and on others is undone."""
    touched = [logging.getLogger(name) for name in ("pytunnel", "trio", "py.warnings")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in touched]
    yield touched[0]
    for logger, (handlers, level, propagate) in zip(touched, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
    logging.captureWarnings(False)
    sys.excepthook = sys.__excepthook__
