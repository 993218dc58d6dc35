"""What this process may use of the machine."""

import math
import os
from pathlib import Path

MEMORY_A_WORKER = 1 << 30
"""A worker of any stage holds less, but for large detectors (docs/performance.md)."""


def processors() -> int:
    """Processors that this process may run on; fewer than the machine's in a container or under `taskset`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(allowed, quota(Path("/sys/fs/cgroup")) or allowed), 1)


def quota(group: Path) -> int | None:
    """Processors' worth of time that a container may use (control groups of both versions), rounded up; None: any."""
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
    """As many worker processes as there are processors, and memory for."""
    free = available_memory()
    return max(min(processors(), free // MEMORY_A_WORKER if free else processors()), 1)


def available_memory() -> int:
    """Bytes that can be had without others having to give some up, the container's limit heeded; 0 if not known."""
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
