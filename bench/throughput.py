"""As many small requests as a way can take: wrk, one thread, 32 connections, each with one request under way."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchFailed
from bench.machine import cpu_seconds
from bench.variants import Variant

CONNECTIONS = 32


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one run of wrk saw. `cpu_us` is what the proxies used for a request, in microseconds."""

    per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    broken: int  # requests that had no answer


def measure(variant: Variant, seconds: int) -> Sample:
    """One run. Raises BenchFailed if the service didn't answer with 200."""
    before = cpu_seconds(variant.items.pids)
    seen = _wrk(variant, seconds)
    used = cpu_seconds(variant.items.pids) - before
    if seen["refused"] or not seen["requests"]:
        raise BenchFailed(f"{variant.name}: {seen['refused']:g} of {seen['requests']:g} replies were errors")
    return Sample(
        per_second=seen["requests"] / seen["seconds"],
        cpu_us=used / seen["requests"] * 1e6,
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        broken=int(seen["broken"]),
    )


def _wrk(variant: Variant, seconds: int) -> dict[str, float]:
    host, port = variant.items.address
    headers = [word for name, value in variant.headers_for("items").items() for word in ("-H", f"{name}: {value}")]
    script = str(Path(__file__).with_name("wrk.lua"))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script, *headers, f"http://{host}:{port}/1k"]
    done = subprocess.run(command, text=True, capture_output=True, timeout=seconds + 30)
    if done.returncode:
        raise BenchFailed(f"wrk: {done.stderr.strip()}")
    seen: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seen
