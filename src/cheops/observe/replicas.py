"""What Prometheus is told of replicated resources: how operations stand at each site, and how long they take to be done
everywhere. A scrape reads four columns of the store's index, and not more often than every few seconds.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cheops.errors import CheopsError
from cheops.ports import LogStore
from cheops.reconcile.book import Book
from cheops.record.operation import FINAL, Dot, Kind, Outcome, State

COUNT_SECONDS = 5.0  # that a count is good for
MOST_COUNTED = 10_000  # operations that are remembered, so that none is counted twice
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86_400)
_WAITING = (State.PENDING, State.BEGUN)


class Replicas(Collector):
    """The metrics of the site `here`; `now` is in seconds since 1970."""

    def __init__(self, here: str, now: Callable[[], float]) -> None:
        self._here, self._now = here, now
        self._counts: Mapping[tuple[str, State], tuple[int, float]] = {}
        self._counted_at = float("-inf")
        self._seen: OrderedDict[tuple[str, Dot], None] = OrderedDict()
        self._seconds = Histogram(
            "cheops_convergence_seconds",
            "Seconds from an operation's request at this site until the last holder was through with it.",
            buckets=BUCKETS,
            registry=None,
        )
        self._failures = Counter(
            "cheops_store_failures", "Times that the store took no write, or couldn't be counted.", registry=None
        )

    def changed(self, book: Book, outcomes: Sequence[Outcome]) -> None:
        """Outcomes of a resource are known; those that end an operation of this site's own are measured."""
        for dot in dict.fromkeys(o.dot for o in outcomes if o.state in FINAL and self._is_own(o.dot)):
            if (book.rid, dot) not in self._seen and _is_everywhere(book, dot):
                self._seen[book.rid, dot] = None
                stamp = book.log.operations[dot].stamp
                self._seconds.observe(max(self._now() - stamp.ms / 1000, 0.0))
        while len(self._seen) > MOST_COUNTED:
            self._seen.popitem(last=False)

    def _is_own(self, dot: Dot) -> bool:
        return dot.author.rpartition(".")[0] == self._here

    def failed(self) -> None:
        """The store took no write."""
        self._failures.inc()

    async def look(self, store: LogStore) -> None:
        """Counts the operations, if that wasn't done only just now."""
        if self._now() - self._counted_at < COUNT_SECONDS:
            return
        try:
            self._counts = await store.counts()
            self._counted_at = self._now()
        except CheopsError:
            self.failed()

    def collect(self) -> Iterator[Metric]:
        counts = GaugeMetricFamily(
            "cheops_operations", "Operations by how far a site is with them, as known here.", labels=["site", "state"]
        )
        oldest = GaugeMetricFamily(
            "cheops_oldest_pending_seconds", "How long the oldest operation waits at a site.", labels=["peer"]
        )
        for (site, state), (count, _) in sorted(self._counts.items(), key=lambda each: (each[0][0], each[0][1].value)):
            counts.add_metric([site, state.value], count)
        for site in sorted({site for site, _ in self._counts}):
            waiting = [self._counts[site, state][1] for state in _WAITING if (site, state) in self._counts]
            oldest.add_metric([site], max(self._now() - min(waiting), 0.0) if waiting else 0.0)
        yield from (counts, oldest)
        yield from self._seconds.collect()
        yield from self._failures.collect()


def _is_everywhere(book: Book, dot: Dot) -> bool:
    """Whether every holder is through with it; one that became a holder later isn't waited for, nor measured."""
    op = book.log.operations.get(dot)
    if op is None or any(other.kind is Kind.PLACE and other.knew(op) for other in book.log.operations.values()):
        return False
    outcomes = [book.outcome(dot, site) for site in book.holders]
    return all(outcome and outcome.state in FINAL and outcome.code != "under-way" for outcome in outcomes)
