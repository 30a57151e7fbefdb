"""Free ports for programs that are told where to listen."""

from __future__ import annotations

import pytest

from lab import ports
from lab.ports import free_port


def test_no_port_is_told_twice_while_programs_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_GIVEN", range(20_000, 20_200))
    told = [free_port("127.0.0.1") for _ in range(50)]
    assert len(set(told)) == 50
