"""What was measured, as a page of Markdown. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import sub, truediv

from bench import open_loop, throughput, uploads
from bench.footprint import Footprint
from bench.rounds import Samples, middle, paired
from bench.variants import Variant

ADDED_P99_MS = 2.7
AGENT_MB, ENVOY_MB, READY_SECONDS = 80, 90, 3


@dataclass(frozen=True, kw_only=True)
class Results:
    """All samples, and the circumstances in which they were taken. `others` is what other processes used of a core."""

    variants: Sequence[Variant]
    throughput: Samples[throughput.Sample]
    uploads: Samples[uploads.Sample]
    latency: Samples[open_loop.Sample]
    footprint: Footprint
    machine: str
    versions: str
    date: str
    pinned: bool
    seconds: int
    rate: int
    others: float


def page(of: Results) -> str:
    """The whole page."""
    return "\n\n".join([_head(of), _throughput(of), _latency(of), _uploads(of), _footprint(of)]) + "\n"


def _head(of: Results) -> str:
    rounds = len(of.throughput["direct"])
    cores = "The proxies had one core, nginx and the clients another." if of.pinned else "Nothing was pinned to a core."
    return f"""\
# Performance

Written by `make bench` on {of.date}: {of.machine}; {of.versions}.

Each variant was measured in turn with the others, {rounds} round{"s" if rounds > 1 else ""}; given is the median of the
rounds, a ratio is the median of the ratios inside a round, and in parentheses stand its quartiles. {cores} Other
processes used {of.others:.2f} of a core meanwhile. Only ratios mean something on another machine.

Service and client are the same for every variant: nginx that answers 1 KB from memory, or a socket that reads uploads
to their end. "Minimal" is a configuration with one listener, one route and one cluster, no log, one worker, and
otherwise the defaults. The front and the agent are those of a site as `cheops lab` makes it, with its access log on;
the two sites meet directly. The agent gets requests that Envoy doesn't recognise at sight: here a scope with
parentheses."""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---", *("---:" for _ in titles[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _throughput(of: Results) -> str:
    rows = [_throughput_row(of, variant) for variant in of.variants]
    broken = sum(sample.broken for samples in of.throughput.values() for sample in samples)
    lost = f"{broken} requests broke off or timed out." if broken else "Every request was answered with 200."
    titles = ["way", "requests/s", "ratio", "to", "proxies' CPU, µs a request", "p50 / p99, ms", "target"]
    return f"""\
## Throughput

GET with a reply of 1 KB, 32 connections without a pause (`wrk -t1 -c32`), {of.seconds} s a round. {lost}

{_table(titles, rows)}

Every scope but those that say "by Lua" or "agent" is one that Envoy finds in the front's table of plain texts. An
application whose description adds baggage or a token's suffix has no such table, and all its scopes go by Lua."""


def _throughput_row(of: Results, variant: Variant) -> list[str]:
    samples = of.throughput[variant.key]
    cpu = middle(samples, "cpu_us")
    ratio, to, target = "", "", ""
    if variant.baseline:
        low, mid, high = paired(samples, of.throughput[variant.baseline], "per_second", truediv)
        ratio, to = f"{mid:.2f} ({low:.2f}–{high:.2f})", _name(of, variant.baseline)
        target = _reached(f"≥ {variant.target}", mid >= variant.target) if variant.target else ""
    return [
        variant.name,
        f"{middle(samples, 'per_second'):,.0f}",
        ratio,
        to,
        f"{cpu:.1f}" if cpu else "–",
        f"{middle(samples, 'p50_ms'):.2f} / {middle(samples, 'p99_ms'):.2f}",
        target,
    ]


def _name(of: Results, key: str) -> str:
    return next(variant.name for variant in of.variants if variant.key == key)


def _reached(target: str, reached: bool) -> str:
    return f"{target}: {'reached' if reached else '**missed**'}"


def _latency(of: Results) -> str:
    rows = [_latency_row(of, variant) for variant in of.variants if variant.key in of.latency]
    titles = ["way", "p50, ms", "p99, ms", "p99.9, ms", "p99 more than nginx", "p99 more than front", "target"]
    return f"""\
## Latency at {of.rate:,} requests a second

POST of 1 KB with a reply of 1 KB, at a constant rate, timed from when each request should have been sent
(`bench/open_loop.py`). Its own share is in the first row.

{_table(titles, rows)}"""


def _latency_row(of: Results, variant: Variant) -> list[str]:
    samples = of.latency[variant.key]
    added = [paired(samples, of.latency[key], "p99_ms", sub) for key in ("direct", "front")]
    is_agent = variant.to == "agent"
    return [
        variant.name,
        *(f"{middle(samples, field):.2f}" for field in ("p50_ms", "p99_ms", "p999_ms")),
        *(f"{mid:+.2f} ({low:+.2f}–{high:+.2f})" for low, mid, high in added),
        _reached(f"≤ {ADDED_P99_MS} ms more than nginx", added[0][1] <= ADDED_P99_MS) if is_agent else "",
    ]


def _uploads(of: Results) -> str:
    rows = [_upload_row(of, variant) for variant in of.variants if variant.key in of.uploads]
    return f"""\
## Uploads

PUT of 64 MB ({uploads.BYTES:,} bytes) over a new connection, until the service has said that it read all of it.

{_table(["way", "MB/s", "ratio", "to", "proxies' CPU, ms"], rows)}"""


def _upload_row(of: Results, variant: Variant) -> list[str]:
    samples = of.uploads[variant.key]
    cpu = middle(samples, "cpu_ms")
    ratio, to = "", ""
    if variant.baseline:
        low, mid, high = paired(samples, of.uploads[variant.baseline], "mb_per_second", truediv)
        ratio, to = f"{mid:.2f} ({low:.2f}–{high:.2f})", _name(of, variant.baseline)
    speed = f"{middle(samples, 'mb_per_second'):,.0f}"
    return [variant.name, speed, ratio, to, f"{cpu:.1f}" if cpu else "–"]


def _footprint(of: Results) -> str:
    found = of.footprint
    limits = [
        ("agent, resident memory", found.agent_mb, AGENT_MB, "MB"),
        ("Envoy, resident memory", found.envoy_mb, ENVOY_MB, "MB"),
        ("from the agent's start to /readyz 200", found.ready, READY_SECONDS, "s"),
    ]
    rows = [
        [what, f"{value:.{0 if unit == 'MB' else 2}f} {unit}", _reached(f"≤ {limit} {unit}", value <= limit)]
        for what, value, limit, unit in limits
    ]
    rows.append(["CPU of both at rest", f"{found.idle_share:.1%} of a core", ""])
    rows.append(["`cheops run … -- true`, more than `true`", f"{found.run - found.bare:.2f} s", ""])
    return f"""\
## A site at rest

One site without a peer, after it was left alone for a while.

{_table(["what", "measured", "target"], rows)}"""
