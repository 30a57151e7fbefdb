"""What tests of `pytunnel doctor` share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytunnel.cli import main as cli
from tests.support.doctor import SECRET, Doctor, Node, Report, Row


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
