"""What a site needs when nobody uses it, how soon it serves, and what `cheops run` adds to a command."""

import http.client
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import BenchFailed
from bench.machine import cpu_seconds, resident_mb
from bench.setting import APP, PATIENCE, address_of, ask, net
from bench.variants import Address
from cheops.lab.lab import Lab


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """`agent_mb` and `envoy_mb` are resident, `idle_share` is what both use of a core; times are in seconds."""

    agent_mb: float
    envoy_mb: float
    idle_share: float
    rest: float
    times: int
    ready: float
    run: float
    bare: float


def measure(folder: Path, *, rest: float, times: int) -> Footprint:
    """Of a lab of one site, after a rest; starts and runs are repeated, and their medians taken."""
    with Lab.up(folder / "one", app=str(APP), sites=1, net=net(3)) as lab:
        pids = lab.sites[0].status()["pids"]
        before, began = cpu_seconds([pids["agent"], pids["envoy"]]), time.monotonic()
        time.sleep(rest)
        used = cpu_seconds([pids["agent"], pids["envoy"]]) - before
        agent, envoy = resident_mb(pids["agent"]), resident_mb(pids["envoy"])
        share = used / (time.monotonic() - began)
        ready = median(_start(lab) for _ in range(times))
    command = [sys.executable, "-m", "cheops", "run", "--scope", "{items: Site1}", "--", "true"]
    return Footprint(
        agent_mb=agent,
        envoy_mb=envoy,
        idle_share=share,
        rest=rest,
        times=times,
        ready=ready,
        run=median(_took(lambda: subprocess.run(command, check=True)) for _ in range(times)),
        bare=median(_took(lambda: subprocess.run(["true"], check=True)) for _ in range(times)),
    )


def _start(lab: Lab) -> float:
    """From the start of the agent's process, which starts Envoy, to the first 200 of /readyz."""
    site = lab.sites[0]
    for what in ("agent", "envoy"):
        site.kill(what)
    began = time.perf_counter()
    site.start_agent()
    _until_ready(address_of(site.admin))
    return time.perf_counter() - began


def _until_ready(admin: Address) -> None:
    end = time.monotonic() + PATIENCE
    while not _is_ready(admin):
        if time.monotonic() > end:
            raise BenchFailed(f"the site isn't ready after {PATIENCE} s")
        time.sleep(0.01)


def _is_ready(admin: Address) -> bool:
    try:
        return ask(admin, "/readyz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
