"""The machine on which it is measured: its cores, what a process uses of it, and what is installed."""

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from cheops import __version__
from cheops.intercept.envoy.binary import find_envoy

NEEDED = ("wrk", "haproxy", "nginx")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Which cores the proxies may use, and which ones clients and services share."""

    proxies: frozenset[int]
    others: frozenset[int]

    @classmethod
    def any(cls) -> "Cores":
        """All that this process may use, for all."""
        allowed = frozenset(os.sched_getaffinity(0))
        return cls(proxies=allowed, others=allowed)

    def apart(self) -> "Cores":
        """One core for the proxies and another for the rest, if there are two."""
        first, last = min(self.others), max(self.proxies)
        return Cores(proxies=frozenset({last}), others=frozenset({first})) if first != last else self


def pin(pids: Iterable[int], cores: frozenset[int]) -> None:
    """Keeps every thread of the processes on these cores."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # some threads live short
                os.sched_setaffinity(int(thread.name), cores)


def cpu_seconds(pids: Iterable[int]) -> float:
    """The CPU time of the processes, to the nanosecond (clock_getcpuclockid(3); /proc/PID/stat counts by 10 ms)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def busy_seconds() -> float:
    """The time in which the machine's cores weren't idle, summed over them, since some moment.

    Idle time is measured, but what runs is only sampled, so short turns on a core are missing from the other columns.
    """
    idle, waiting = Path("/proc/stat").read_text().split()[4:6]
    return time.monotonic() * (os.cpu_count() or 1) - (int(idle) + int(waiting)) / TICKS


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in millions of bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def missing() -> list[str]:
    """What has to be installed first."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # Debian's place for nginx and haproxy, which isn't on everybody's PATH
    return [name for name in NEEDED if not which(name)]


def description() -> str:
    """The machine in general words."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    model = found[1].strip() if found else platform.machine()
    count = len(os.sched_getaffinity(0))
    virtual = ", a virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    return f"{count} core{'s' if count > 1 else ''} of {model}{virtual}"


def versions() -> str:
    """What was measured, and with what."""
    named = {
        "Cheops": __version__,
        "Envoy": _version(find_envoy(), "--version"),
        "HAProxy": _version("haproxy", "-v"),
        "nginx": _version("nginx", "-v"),
        "wrk": _version("wrk", "-v"),
        "Python": platform.python_version(),
        "Linux": platform.release().split("-")[0],
    }
    return ", ".join(f"{name} {version}" for name, version in named.items())


def _version(*command: str) -> str:
    done = subprocess.run(command, text=True, capture_output=True, timeout=20)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "?"


def say(text: str) -> None:
    """Tells how far it is, beside the result."""
    print(text, file=sys.stderr, flush=True)
