"""The SST program with its limits shortened to seconds, for tests of what happens when they are over.

python tests/support/impatient_sst.py --role joiner|donor …

IMPATIENCE in the environment multiplies the limits: where none may be over, a busy machine needs longer ones.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
sys.argv[0] = "wsrep_sst_rsync_tunnel"

from pytunnel.sst import patience, rsync, shim  # noqa: E402 - the path to it is known only now
from pytunnel.transport import names, tcp  # noqa: E402 - likewise

FACTOR = int(os.environ.get("IMPATIENCE", "1"))

rsync.IDLE_LIMIT = 2 * FACTOR
patience.MUTE_LIMIT = 4.0 * FACTOR
patience.SETTLE_LIMIT = 2.0 * FACTOR
patience.ABSENCE_LIMIT = 3.0 * FACTOR

tcp._RESOLVE_LIMIT = 3.0
names._LIMIT = 2.0
patience.NETWORK_LIMIT = 4.0
patience.WAITS = (0.1, 0.5)

shim.main()
