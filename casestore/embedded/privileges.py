"""PostgreSQL refuses to run as root; so root runs it as `nobody`, which every Linux system has."""

from __future__ import annotations

import os
import pwd
from functools import cache
from pathlib import Path

DAC_OVERRIDE, DAC_READ_SEARCH, SETPCAP = 1, 2, 8


def is_root() -> bool:
    return os.geteuid() == 0


@cache
def unprivileged() -> tuple[int, int]:
    """User and group number of `nobody`."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def give_away(path: Path) -> None:
    """Lets the unprivileged user own one file or folder, when we are root."""
    if is_root():
        os.chown(path, *unprivileged(), follow_symlinks=False)


def capabilities() -> int:
    """The capabilities that this process has and may pass on, as bits."""
    bits = {
        name: int(value, 16)
        for name, _, value in (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
        if name in {"CapPrm", "CapBnd"}
    }
    return bits.get("CapPrm", 0) & bits.get("CapBnd", 0)


def drop() -> list[str]:
    """The words to put before a command that must not run as root; none when we are not.

    The project may lie in a folder that only root enters, /root above all. Rather than open it to everybody, the
    server keeps one capability: to read and to pass through folders.
    """
    if not is_root():
        return []
    user, group = unprivileged()
    words = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    have = capabilities()
    if not have >> SETPCAP & 1:
        return words
    for bit, name in ((DAC_READ_SEARCH, "dac_read_search"), (DAC_OVERRIDE, "dac_override")):
        if have >> bit & 1:
            # Without no_setuid_fixup access(2) ignores the capability, and PostgreSQL asks it for its own binary.
            keep = [f"--inh-caps=+{name}", f"--ambient-caps=+{name}", "--securebits=+no_setuid_fixup"]
            return words + keep
    return words
