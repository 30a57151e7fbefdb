"""The SST methods that this program serves; they differ in names, and in where the certificates lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Method:
    """One value of wsrep_sst_method. `module` is its rsync module, `state_file` the file that is sent last."""

    name: str
    module: str
    state_file: str


RSYNC_TUNNEL = Method("rsync_tunnel", "rsync_tunnel_sst", "rsync_tunnel_sst_complete")
SECURE_RSYNC = Method("secure_rsync", "secure_rsync_sst", "secure_rsync_sst_complete")
"""Percona's old method: a directory of two certificates, one for joiners, one for donors."""
METHODS = {method.name: method for method in (RSYNC_TUNNEL, SECURE_RSYNC)}


def method_of(program: str) -> Method:
    """The method that a program's file name stands for."""
    return SECURE_RSYNC if program == f"wsrep_sst_{SECURE_RSYNC.name}" else RSYNC_TUNNEL
