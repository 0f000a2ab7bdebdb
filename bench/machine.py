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
    """Which core the proxies have for themselves, and which one clients and services share; None: any."""

    proxies: int | None
    others: int | None

    @classmethod
    def of_machine(cls) -> "Cores":
        allowed = sorted(os.sched_getaffinity(0))
        return cls(proxies=allowed[-1], others=allowed[0]) if len(allowed) > 1 else cls(proxies=None, others=None)


def pin(pids: Iterable[int], core: int | None) -> None:
    """Keeps every thread of the processes on one core."""
    if core is None:
        return
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):  # some threads live short
                os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pids: Iterable[int]) -> float:
    """The CPU time of the processes, to the nanosecond (clock_getcpuclockid(3); /proc/PID/stat counts by 10 ms)."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def busy_seconds() -> float:
    """The CPU time that all processes of the machine have used since it started."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / TICKS


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
