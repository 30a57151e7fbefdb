"""How a failure is told."""

from __future__ import annotations

import errno
import os

import pytest

from pytunnel.sst.errors import refused


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("/db/shop", "/db/shop: No such file or directory"),
        (b"/db/shop", "/db/shop: No such file or directory"),
        (None, "the system refused: No such file or directory"),
        (7, "the system refused: No such file or directory"),
    ],
)
def test_a_file_is_named_as_text_however_the_system_has_it(file: str | bytes | int | None, said: str) -> None:
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    error.filename = file
    assert refused(error) == said
