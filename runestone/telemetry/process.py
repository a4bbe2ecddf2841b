"""What the operating system knows of this process, where it tells."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Final

_IMPORTED_AT: Final = time.time()
_AFTER_NAME: Final = 19  # fields of /proc/self/stat from the name, which may hold spaces, to the start time


def resident_bytes() -> int:
    """Memory in use now; where the system does not tell, the most that ever was."""
    return memory_bytes()[1]


def memory_bytes() -> tuple[int, int]:
    """Virtual and resident memory."""
    try:
        virtual, resident = Path("/proc/self/statm").read_text(encoding="ascii").split()[:2]
    except OSError:
        return 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    page = os.sysconf("SC_PAGE_SIZE")
    return int(virtual) * page, int(resident) * page


def cpu_seconds() -> float:
    """User and system time since the start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def open_descriptors() -> int | None:
    """How many files and sockets are open."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - ten times as quick where there are thousands
    except OSError:
        return None


def most_descriptors() -> int:
    """How many may be."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allowed_descriptors() -> int:
    """To how many that may be raised without privileges."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def started_at() -> float:
    """When the process started, in seconds since the epoch; where the system does not tell, when this module was loaded."""
    try:
        ticks = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[_AFTER_NAME]
        booted = next(
            line for line in Path("/proc/stat").read_text(encoding="ascii").splitlines() if line.startswith("btime ")
        )
    except (OSError, StopIteration):
        return _IMPORTED_AT
    return int(booted.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")
