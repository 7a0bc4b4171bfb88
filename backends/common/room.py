# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there is memory and disk for what is about to begin."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .errors import VivantError

_GROUP = Path("/sys/fs/cgroup")


def require(memory: float = 0, disk: float = 0, folder: Path | None = None, what: str = "This") -> None:
    """Raise VivantError where so many bytes of memory, or of disk in `folder` (which need not exist yet), are not free."""
    free = free_memory()
    if free is not None and memory > free:
        raise VivantError(
            f"{what} needs {_size(memory)} of memory, and {_size(free)} are free.",
            "Take smaller or fewer pictures, or close programs.",
        )
    if folder is not None:
        left = free_disk(folder)
        if disk > left:
            raise VivantError(
                f"{what} needs {_size(disk)} on the disk of '{folder}', and {_size(left)} are free.",
                "Free some space or choose another folder.",
            )


def free_disk(folder: Path) -> int:
    """Bytes that can be written to the disk on which a folder lies or will lie."""
    existing = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path.cwd())
    return shutil.disk_usage(existing).free


def free_memory() -> int | None:
    """Bytes of memory that programs can take without swapping, None where the system does not say it."""
    if sys.platform == "win32":
        import ctypes

        status = (ctypes.c_uint64 * 8)()  # MEMORYSTATUSEX: two 32-bit numbers, then seven of 64 bits; the third is what is free
        status[0] = ctypes.sizeof(status)
        return int(status[2]) if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    if not sys.platform.startswith("linux"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS frees what others only cache
    found = []
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) << 10)
    try:  # a container's own limit
        found.append(int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # none, or "max"
        return min(found, default=None)
    return max(min(found), 0)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
