"""The end of a peer's feed, as it was written: what is told at once needn't be read from the store again. Pure."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cheops.ports import Told
from cheops.record.operation import Item, Operation

MOST = 500  # items; beyond that the store has them


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What a feed has got: items up to its `end`; `awaited`: the peer shouldn't have to wait for them."""

    end: int
    items: tuple[Item, ...]
    awaited: bool


Fed = Mapping[str, News]
"""By peer."""


def news_for(peer: str, told: Sequence[Told], end: int) -> News:
    """What of all that is told goes to a peer, whose feed ends there then."""
    items = tuple(each.item for each in told if peer in each.peers)
    return News(end=end, items=items, awaited=any(_is_awaited(item, peer) for item in items))


def _is_awaited(item: Item, peer: str) -> bool:
    """An operation is to be executed. Of outcomes, its author's caller waits for all; what came of it where it was
    requested vouches for it everywhere, and its caller may use the id that he was told at any site.
    """
    return isinstance(item, Operation) or item.dot.author.rpartition(".")[0] in (peer, item.site)


class Fresh:
    """Items with their positions, without gaps; `lost`: the store may have others, and is to be read."""

    def __init__(self) -> None:
        self.lost = True
        self._items: deque[tuple[int, Item]] = deque()

    def lose(self) -> None:
        """What follows isn't known."""
        self.lost = True
        self._items.clear()

    def begin(self) -> None:
        """The store is read now; what is added from now on may follow, or be in that already."""
        self.lost = False
        self._items.clear()

    def add(self, news: News) -> None:
        """Once something is lost, only `begin` helps."""
        first = news.end - len(news.items) + 1
        if self.lost or len(self._items) + len(news.items) > MOST or (self._items and self._items[-1][0] != first - 1):
            self.lose()
        else:
            self._items.extend(enumerate(news.items, first))

    def after(self, position: int) -> Sequence[tuple[int, Item]]:
        """What follows a position; nothing, and lost, if that doesn't begin here."""
        while self._items and self._items[0][0] <= position:
            self._items.popleft()
        if self._items and self._items[0][0] != position + 1:
            self.lose()
        return tuple(self._items)
