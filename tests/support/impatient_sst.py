"""The SST program with its limits shortened to seconds, for tests of what happens when they are over.

python tests/support/impatient_sst.py --role joiner|donor …
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
sys.argv[0] = "wsrep_sst_rsync_tunnel"

from pytunnel.sst import patience, rsync, shim  # noqa: E402 - the path to it is known only now
from pytunnel.transport import names, tcp  # noqa: E402 - likewise

rsync.IDLE_LIMIT = 2
patience.MUTE_LIMIT = 4.0
patience.SETTLE_LIMIT = 2.0
patience.ABSENCE_LIMIT = 3.0

tcp._RESOLVE_LIMIT = 3.0
names._LIMIT = 2.0
patience.NETWORK_LIMIT = 4.0
patience.WAITS = (0.1, 0.5)

shim.main()
