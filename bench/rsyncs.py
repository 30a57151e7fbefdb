"""Real rsync through a port: as pytunnel plans it, and as the old scripts do (one run for each schema)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench import BenchError
from bench.peers import HOST
from bench.running import free_ports, running
from pytunnel.sst import manifest, rsync

MODULE = "rsync_tunnel_sst"
STREAMS = 4
"""How many rsync processes work at once, for everybody: pytunnel's default."""

_LIMIT = 120.0  # seconds that one rsync may take
_COMMON = ("--links", "--perms", "--owner", "--group", "--inplace", "--whole-file", "--ignore-times")

Transfer = Callable[[Path, int], None]


@contextmanager
def daemon(folder: Path, datadir: Path) -> Iterator[int]:
    """An rsync daemon that serves `datadir` without encryption; its port."""
    (port,) = free_ports(1)
    config = folder / "rsyncd.conf"
    owner = f"uid = {os.geteuid()}\ngid = {os.getegid()}\n" if os.geteuid() == 0 else ""
    config.write_text(f"use chroot = no\nread only = no\n{owner}[{MODULE}]\npath = {datadir}\n")
    command = ["rsync", "--daemon", "--no-detach", f"--port={port}", f"--address={HOST}", f"--config={config}"]
    with running(command, port):
        yield port


def transfer_as_planned(datadir: Path, port: int) -> None:
    """What pytunnel's donor runs: a pass that deletes, then streams of equal bytes; raises BenchError."""
    target = f"rsync://{HOST}:{port}/{MODULE}/"
    _run(rsync.delete_arguments(datadir, (), target, guarded=False))
    streams = manifest.plan_streams(manifest.list_schemas(datadir), STREAMS)
    schemas = rsync.schema_arguments(datadir, target, rsync.Saving())
    sets = [rsync.set_arguments(datadir, files, target, rsync.Saving()) for files in manifest.FILE_SETS]
    _run_at_once([(schemas, manifest.file_list(stream)) for stream in streams] + [(words, b"") for words in sets])


def transfer_by_schema(datadir: Path, port: int) -> None:
    """One rsync for the files of the top level, and one for each schema; raises BenchError."""
    target = f"rsync://{HOST}:{port}/{MODULE}/"
    wanted = [f"--include={pattern}" for files in manifest.FILE_SETS for pattern in files.patterns]
    _run(["--dirs", "--delete", *_COMMON, *wanted, "--exclude=*", f"{datadir}/", target])
    schemas = sorted(path.name for path in datadir.iterdir() if path.is_dir())
    recursive = ["--recursive", "--delete", *_COMMON]
    _run_at_once([([*recursive, f"{datadir}/{name}/", f"{target}{name}"], b"") for name in schemas])


def _run_at_once(calls: Sequence[tuple[list[str], bytes]]) -> None:
    with ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(lambda call: _run(*call), calls))


def _run(arguments: list[str], stdin: bytes = b"") -> None:
    environment = rsync.client_environment(os.environ, None)
    try:
        subprocess.run(
            ["rsync", *arguments], input=stdin, capture_output=True, check=True, timeout=_LIMIT, env=environment
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise BenchError(f"rsync ended with exit status {error.returncode}: {said}") from error
