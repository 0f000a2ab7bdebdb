"""Who waits for a change of a resource."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Waiting:
    """Events, by what they wait for."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}

    @contextmanager
    def on(self, key: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever it is told of the key."""
        event = asyncio.Event()
        self._events.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._events[key].discard(event)
            if not self._events[key]:
                del self._events[key]

    def tell(self, key: str) -> None:
        """It has changed."""
        for event in self._events.get(key, ()):
            event.set()
