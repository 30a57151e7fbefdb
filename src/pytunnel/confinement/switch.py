"""Confine this process as far as was asked for, and say in one line how far that is."""

from __future__ import annotations

import enum

from pytunnel.confinement import landlock
from pytunnel.confinement.errors import ConfinementError
from pytunnel.confinement.privileges import forbid_core_dumps, forbid_new_privileges


class Confine(enum.Enum):
    """How much: nothing but core dumps is forbidden, what the kernel can forbid, or that and Landlock for sure."""

    OFF = "off"
    AUTO = "auto"
    REQUIRE = "require"


def confine(how: Confine, rules: landlock.Rules | None, reason: str = "") -> str:
    """Confine this process for good, threads that it starts later and programs included.

    `rules` None: Landlock can't be used, for `reason`. Returns what is in force, in words. Raises ConfinementError
    where Landlock is required and can't be had.
    """
    forbid_core_dumps()
    if how is Confine.OFF:
        return "no core dumps; otherwise not confined (confine=off)"
    forbid_new_privileges()
    abi = landlock.kernel_abi()
    if rules is not None and abi:
        landlock.restrict(rules, abi)
        what = ", ".join(landlock.restricted(rules, abi))
        return f"no core dumps, no new privileges, Landlock for {what} (ABI {abi})"
    missing = reason if rules is None else "this kernel has no Landlock, or a container hides it"
    if how is Confine.REQUIRE:
        raise ConfinementError(f"confine=require can't be met: {missing}; use confine=auto")
    return f"no core dumps, no new privileges; no Landlock: {missing}"
