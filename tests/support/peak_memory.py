"""The peak memory of a process. `ru_maxrss` would not do: on Linux it starts at that of the parent process."""

from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_mebibytes() -> int:
    """The most memory that this process has had, in MiB; 0 where the system does not say."""
    if not _STATUS.exists():
        return 0
    [peak] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(peak.split()[1]) >> 10
