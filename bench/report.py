"""What was measured, as a page of Markdown. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import sub, truediv
from textwrap import fill

from bench import open_loop, throughput, uploads
from bench.footprint import Footprint
from bench.replication_report import Results as Replicated
from bench.replication_report import section as replication_section
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
    replication: Replicated
    machine: str
    versions: str
    date: str
    pinned: bool
    seconds: int
    rate: int
    others: float


def page(of: Results) -> str:
    """The whole page."""
    parts = [_head(of), _throughput(of), _latency(of), _uploads(of), _footprint(of)]
    return "\n\n".join([*parts, replication_section(of.replication)]) + "\n"


def _text(text: str) -> str:
    """A paragraph, its lines filled."""
    return fill(" ".join(text.split()), width=120, break_long_words=False, break_on_hyphens=False)


def _head(of: Results) -> str:
    rounds = len(of.throughput["direct"])
    how_often = "once" if rounds == 1 else f"{rounds} times"
    made = f"Written by `make bench` on {of.date}: {of.machine}; {of.versions}."
    how = f"""
        Each way was measured {how_often}, in turn with the others. Given is the median; a ratio is the median of the
        ratios of each turn, with its quartiles in parentheses. Only ratios mean something on another machine. Other
        processes used {of.others:.2f} of a core meanwhile."""
    return "\n\n".join(["# Performance", *map(_text, (made, how, _WHAT))])


_WHAT = """
    The service is the same for all: nginx, which answers 1 KB from memory, or for uploads a socket that is read to the
    end. "Minimal" is a configuration of one listener, one route and one cluster, no log, one worker, and the defaults
    for the rest. Front and agent are those of a site as the lab makes it, access log included; two such
    sites meet without the lab's links between them. The agent gets what Envoy doesn't recognise at sight: here, a scope
    with parentheses."""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---", *("---:" for _ in titles[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _throughput(of: Results) -> str:
    rows = [_throughput_row(of, variant) for variant in of.variants]
    broken = sum(sample.broken for samples in of.throughput.values() for sample in samples)
    lost = f"{broken} requests broke off or timed out." if broken else "Every request was answered with 200."
    how = f"""
        GET with a reply of 1 KB, 32 connections without a pause (`wrk -t1 -c32`), for {of.seconds} s each time.
        {_PINNED if of.pinned else _FREE} {lost}"""
    cpu = "CPU of proxies, µs a request"
    titles = ["way", "requests/s", "ratio", "to", "ratio to the same with our log", cpu, "p50 / p99, ms", "target"]
    return "\n\n".join(["## Throughput", _text(how), _table(titles, rows), _text(_BY_LUA)])


_PINNED = "The proxies had one core, services and clients another."
_FREE = "Nothing was kept on a core of its own."
_BY_LUA = """
    A scope stands in the front's table of plain texts, unless the row says "by Lua" or "agent". An application whose
    description has the carriers baggage or token-suffix has no such table: all its scopes go by Lua."""


def _throughput_row(of: Results, variant: Variant) -> list[str]:
    samples = of.throughput[variant.key]
    ratio = _ratio(variant, variant.baseline, of.throughput, "per_second")
    return [
        variant.name,
        f"{middle(samples, 'per_second'):,.0f}",
        *_compared(of, variant, ratio),
        _quartiles(_ratio(variant, variant.logged, of.throughput, "per_second")),
        _cpu(middle(samples, "cpu_us")),
        f"{middle(samples, 'p50_ms'):.2f} / {middle(samples, 'p99_ms'):.2f}",
        _reached(f"≥ {variant.target}", ratio[1] >= variant.target) if variant.target and ratio else "",
    ]


Quartiles = tuple[float, float, float]


def _ratio(variant: Variant, baseline: str | None, samples: Samples[object], field: str) -> Quartiles | None:
    return paired(samples[variant.key], samples[baseline], field, truediv) if baseline else None


def _quartiles(ratio: Quartiles | None) -> str:
    return _spread(ratio, ".2f") if ratio else ""


def _spread(of: Quartiles, form: str) -> str:
    """The median, and in parentheses the quartiles if there is more than one value."""
    low, mid, high = of
    return f"{mid:{form}} ({low:{form}}–{high:{form}})" if low < high else f"{mid:{form}}"


def _compared(of: Results, variant: Variant, ratio: Quartiles | None) -> tuple[str, str]:
    """The ratio, and the name of what it is a ratio to."""
    if ratio is None:
        return "", ""
    baseline = next(other.name for other in of.variants if other.key == variant.baseline)
    return _quartiles(ratio), baseline


def _cpu(value: float) -> str:
    return f"{value:.1f}" if value else "–"


def _reached(target: str, reached: bool) -> str:
    return f"{target}: {'reached' if reached else '**missed**'}"


def _latency(of: Results) -> str:
    rows = [_latency_row(of, variant) for variant in of.variants if variant.key in of.latency]
    titles = ["way", "p50, ms", "p99, ms", "p99.9, ms", "p99 added to directly", "p99 added by the agent", "target"]
    title = f"## Latency at {of.rate:,} requests a second"
    return "\n\n".join([title, _text(_OPEN_LOOP), _table(titles, rows)])


_OPEN_LOOP = """
    POST of 1 KB with a reply of 1 KB, at a constant rate, each timed from when it should have been sent
    (`bench/open_loop.py`). What the client itself adds is in the first row. What the agent adds is said of the same way
    without it. Nothing was kept on a core of its own."""


def _latency_row(of: Results, variant: Variant) -> list[str]:
    samples = of.latency[variant.key]
    to_directly, by_agent = (_added(of, variant, key) for key in ("direct", variant.without_agent))
    return [
        variant.name,
        *(f"{middle(samples, field):.2f}" for field in ("p50_ms", "p99_ms", "p999_ms")),
        *(_spread(added, "+.2f") if added else "" for added in (to_directly, by_agent)),
        _reached(f"agent: ≤ {ADDED_P99_MS} ms", by_agent[1] <= ADDED_P99_MS) if by_agent else "",
    ]


def _added(of: Results, variant: Variant, key: str | None) -> Quartiles | None:
    """What the 99th percentile is more than that of the way of this key."""
    return paired(of.latency[variant.key], of.latency[key], "p99_ms", sub) if key else None


def _uploads(of: Results) -> str:
    rows = [_upload_row(of, variant) for variant in of.variants if variant.key in of.uploads]
    how = f"PUT of {uploads.BYTES:,} bytes over a new connection, until the service has said that it read them all."
    return "\n\n".join(["## Uploads", how, _table(["way", "MB/s", "ratio", "to", "CPU of proxies, ms"], rows)])


def _upload_row(of: Results, variant: Variant) -> list[str]:
    samples = of.uploads[variant.key]
    ratio = _ratio(variant, variant.baseline, of.uploads, "mb_per_second")
    speed = f"{middle(samples, 'mb_per_second'):,.0f}"
    return [variant.name, speed, *_compared(of, variant, ratio), _cpu(middle(samples, "cpu_ms"))]


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
    how = f"One site without a peer, {found.rest:g} s after it was ready; starts are the median of {found.times}."
    return "\n\n".join(["## A site at rest", how, _table(["what", "measured", "target"], rows)])
