"""What the SST method says of keys in `[sst]` that it doesn't know."""

from __future__ import annotations

from pathlib import Path

from lab.certificates import self_signed
from tests.support.programs import needs
from tests.support.sst import PlayedServer

pytestmark = needs("rsync", "my_print_defaults")


def test_a_key_that_is_nearly_one_of_ours_is_warned_of_before_what_comes_of_it(tmp_path: Path) -> None:
    node = PlayedServer(tmp_path, options={"tcrt": "/etc/node.pem"})
    run = node.start_joiner()
    assert run.end() == 22
    warned, error = (
        run.log.index("tcrt in [sst] means nothing, and is ignored; is tcert meant?"),
        run.log.index("ERROR"),
    )
    assert warned < error
    assert "[WARNING] tcrt" in run.log


def test_a_key_of_another_method_is_not_warned_of(tmp_path: Path) -> None:
    own = self_signed("localhost")
    node = PlayedServer(tmp_path, options={"compressor": "gzip", "ssl-cipher": "HIGH", "site-note": "x"})
    run = node.use(own, [own]).start_joiner()
    run.ready()
    run.process.terminate()
    run.end()
    assert "means nothing" not in run.log
