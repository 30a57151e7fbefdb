"""Our reading of words and quotes against the real socat's."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytunnel.sockopt.syntax import split_words

SOCAT = shutil.which("socat")

pytestmark = pytest.mark.skipif(
    SOCAT is None and os.environ.get("CI") != "true",
    reason="socat is not on PATH; `apt-get install socat` (or dnf) enables these tests",
)


def socat_reads(text: str) -> list[tuple[str, str]]:
    """The values that the real socat reads from address options made of cafile, capath and snihost alone."""
    # The CA file doesn't exist, so socat ends before it opens a socket.
    address = f"OPENSSL:127.0.0.1:1,cafile=/nonexistent,{text}"
    ran = subprocess.run(
        [SOCAT or "socat", "-ddd", address, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )
    lines = ran.stderr.decode("utf-8", "surrogateescape").splitlines()
    found = [re.search(r'setting option "openssl-([a-z]+)" to "(.*)"$', line) for line in lines]
    return [(match[1], match[2]) for match in found if match is not None][1:]


# Characters with a meaning to socat, and few others: each example is then likely to be a special case.
values = st.text(alphabet="\\\"'()[]{}<>,=!:ab ", max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["cafile", "capath", "snihost"]), values), min_size=1, max_size=3))
def test_what_we_read_is_what_socat_reads(words: list[tuple[str, str]]) -> None:
    text = ",".join(f"{name}={value}" for name, value in words)
    with contextlib.suppress(ValueError):  # refused: socat may do with it as it likes
        ours = list(split_words(text))
        known = [(name, value) for name, value in ours if value is not None and name in ("cafile", "capath", "snihost")]
        if len(known) == len(ours) and not any(ord(char) < 32 for _, value in known for char in value):
            assert known == socat_reads(text)


@pytest.mark.parametrize(
    "text",
    [
        r"cafile='ab'cd",
        r"cafile=a\,b,capath=c",
        r'cafile="a\"b,c"d',
        r"cafile=(a,(b],'),'),c)",
        r"cafile={[b,]\"x\"'y,z'}c,,capath=[::1]",
        "cafile=a=b!c:d",
        r"cafile=a\!!b",
        "snihost=<a'b,c'>,",
    ],
)
def test_these_are_read_as_socat_reads_them(text: str) -> None:
    assert list(split_words(text)) == socat_reads(text)
