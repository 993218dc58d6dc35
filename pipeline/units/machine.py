"""The processors and the memory that this process may use."""

import math
import os
from pathlib import Path

MEMORY_PER_WORKER = 1 << 30
"""In bytes. A worker of any stage needs less, except with a large detector (docs/performance.md)."""


def processors() -> int:
    """The number of processors that this process may run on. In a container or under `taskset`, not all there are."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(allowed, quota(Path("/sys/fs/cgroup")) or allowed), 1)


def quota(group: Path) -> int | None:
    """The processor time that a container may use, in processors, rounded up. None means no limit. Both versions of
    control groups are understood."""
    try:
        if (group / "cpu.max").exists():
            most, period = (group / "cpu.max").read_text().split()
        else:
            most = (group / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu" / "cpu.cfs_period_us").read_text()
        return math.ceil(int(most) / int(period)) if int(most) > 0 else None
    except (OSError, ValueError):  # not Linux, or "max"
        return None


def default_workers() -> int:
    """One worker process per processor, fewer where memory is short."""
    free = available_memory()
    return max(min(processors(), free // MEMORY_PER_WORKER if free else processors()), 1)


def available_memory() -> int:
    """Bytes that are available without swapping, within the container's limit. 0 if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
        return max(min(free, int(limit) - int(used)), 0)
    except (OSError, ValueError):
        return free
