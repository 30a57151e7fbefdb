"""Examples in the documents, as their readers copy them."""

from __future__ import annotations

import re
import textwrap


def example(document: str, name: str) -> str:
    """The text of the block that is marked `tested: name`."""
    match = re.search(rf"^( *)<!-- tested: {name} -->\n *```\w+\n(.*?)^ *```", document, re.DOTALL | re.MULTILINE)
    assert match is not None, f"no example {name}"
    return textwrap.dedent(match[2])
