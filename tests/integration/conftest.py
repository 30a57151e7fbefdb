"""What integration tests share: a donor and a joiner, and `pytunnel doctor` on a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytunnel.cli import main as cli
from tests.support.doctor import SECRET, Doctor, Node, Report, Row
from tests.support.sst import PlayedServer, shops


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def doctor(node: Node, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run the program's face on the node's option file; the secret must never come out."""

    def run(*arguments: str) -> Report:
        node.write()
        code = cli.run(["doctor", "--defaults-file", str(node.option_file), "--json", *arguments])
        output = capsys.readouterr().out
        assert SECRET not in output
        assert "PRIVATE KEY" not in output
        return Report(code, tuple(Row(**row) for row in json.loads(output)))

    return run


@pytest.fixture
def pair_of_shops(tmp_path: Path) -> tuple[PlayedServer, PlayedServer]:
    return shops(tmp_path)


@pytest.fixture
def donor(pair_of_shops: tuple[PlayedServer, PlayedServer]) -> PlayedServer:
    """A node with one table."""
    return pair_of_shops[0]


@pytest.fixture
def joiner(pair_of_shops: tuple[PlayedServer, PlayedServer]) -> PlayedServer:
    """A node with old data; it and the donor trust each other."""
    return pair_of_shops[1]
