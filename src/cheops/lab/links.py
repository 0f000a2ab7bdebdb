"""The wires between the sites of a lab: ``python -m cheops.lab.links SPEC.json``.

Why: a lab runs every site on one machine, where the network never fails. All traffic between two sites passes through
this one process, which can cut, heal, blackhole and delay it. It relays bytes and doesn't know what they mean.

A *way* is one direction of data between two sites. A connection that Site1 dialed to Site2 sends by the way
(Site1, Site2) and is answered by (Site2, Site1), hence one-way faults. The news that an end has closed or reset travels
as data does: after the delay, and not through a blackhole. To connect needs both ways, and costs a round trip.

Not promised: packets. None is lost, bandwidth has no limit, and acknowledgements always arrive: while one way is a
blackhole, a live connection still carries data by the other. A dialer believes at once that it is connected, for the
kernel accepts; and what the kernel was given before a fault counts as arrived.
"""

from __future__ import annotations

import asyncio
import json
import math
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

CHUNK = 64 * 1024
HELD_AT_MOST = 4 * 1024 * 1024  # by one direction of one connection: the default maximum of Linux's tcp_wmem
PARCEL_COST = 256  # what Python adds to a chunk: uncounted, a flood of single bytes would have no bound
SLOWEST_MS = 60_000
SPEC_SHAPE = '{"control": PATH, "links": [{"from": SITE, "to": SITE, "listen": "IP:PORT", "target": "IP:PORT"}, …]}'
RESET_ON_CLOSE, FLUSH_ON_CLOSE = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)  # see socket(7), SO_LINGER

Pair = tuple[str, str]
Tasks = set[asyncio.Task[None]]
Welcome = Callable[[socket.socket], Coroutine[Any, Any, None]]


class LinksError(Exception):
    """A plain sentence: the spec or the request is wrong, and how; or no links process answers."""


BECOMES = {"cut": "cut", "heal": "open", "blackhole": "blackhole"}  # what a request makes of the state of a way
TAKES = {"status": set(), "delay": {"between", "round_trip_ms"}} | {verb: {"between", "oneway"} for verb in BECOMES}


def _check_pair(pair: object) -> None:
    sites = pair if isinstance(pair, list | tuple) else ()
    if len(sites) != 2 or not all(isinstance(site, str) for site in sites) or sites[0] == sites[1]:
        raise LinksError(f'a pair is two different sites, such as ["Site1", "Site2"], not {pair!r}')


@dataclass(frozen=True, kw_only=True)
class Link:
    """What the dialer's connections to the dialed site go through: from ``listen`` to ``target``."""

    pair: Pair  # dialer, dialed
    listen: tuple[str, int]
    target: tuple[str, int]

    def __post_init__(self) -> None:
        _check_pair(self.pair)


@dataclass(frozen=True, kw_only=True)
class Spec:
    control: Path  # of the unix socket
    links: tuple[Link, ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """``do`` is a key of TAKES, which names the fields that mean something to it."""

    do: str
    between: Sequence[str] = ()
    oneway: bool = False
    round_trip_ms: float = 0.0

    def __post_init__(self) -> None:
        if "between" in TAKES[self.do]:
            _check_pair(self.between)
        if not isinstance(self.oneway, bool):
            raise LinksError(f"oneway is true or false, not {self.oneway!r}")
        if type(self.round_trip_ms) not in (int, float) or not 0 <= self.round_trip_ms <= SLOWEST_MS:
            raise LinksError(f"round_trip_ms is a number from 0 to {SLOWEST_MS}, not {self.round_trip_ms!r}")

    def pairs(self) -> list[Pair]:
        one, other = self.between
        return [(one, other)] if self.oneway else [(one, other), (other, one)]


def parse_request(line: bytes) -> Request:
    """``{"do": "cut", "between": ["Site1", "Site2"], "oneway": false}``. Raises LinksError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LinksError(f'a request is one line of JSON, such as {{"do": "status"}}: {error}') from error
    verb = message.get("do") if isinstance(message, dict) else None
    if not isinstance(verb, str) or verb not in TAKES:
        raise LinksError(f'a request is a JSON object whose "do" is one of {", ".join(TAKES)}, not {verb!r}')
    takes, given = TAKES[verb], message.keys() - {"do"}
    if not takes - {"oneway"} <= given <= takes:
        raise LinksError(f"{verb} takes {_named(takes)}, but was given {_named(given)}")
    return Request(**message)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def read_spec(path: Path) -> Spec:
    """Its shape is SPEC_SHAPE. Raises LinksError."""
    try:
        content = json.loads(path.read_text())
        return Spec(control=Path(content["control"]), links=tuple(map(_link, content["links"])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LinksError(f"{path} should hold {SPEC_SHAPE}, but: {error!r}") from error


def _link(entry: dict[str, str]) -> Link:
    return Link(pair=(entry["from"], entry["to"]), listen=_address(entry["listen"]), target=_address(entry["target"]))


def _address(text: str) -> tuple[str, int]:
    host, _, port = str(text).rpartition(":")
    if not 0 < int(port) < 2**16:
        raise ValueError(f"{port} is not a port")
    return str(IPv4Address(host)), int(port)


@dataclass(kw_only=True)
class Way:
    """One direction of data between two sites, whoever dialed."""

    state: str = "open"  # or "cut" or "blackhole"
    delay: float = 0.0  # seconds
    moved: int = 0  # bytes
    passable: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.become(self.state)

    def become(self, state: str) -> None:
        self.state = state
        (self.passable.set if state == "open" else self.passable.clear)()

    def due(self) -> float:
        """When that which leaves now arrives, if nothing is in the way."""
        return time.monotonic() + self.delay

    async def passage(self, due: float) -> None:
        """Return once that which is ``due`` then has arrived."""
        while (left := due - time.monotonic()) > 0:  # uvloop's clock may wake us a little early
            await asyncio.sleep(math.ceil(left * 1000) / 1000)
        await self.passable.wait()

    @asynccontextmanager
    async def news(self) -> AsyncIterator[None]:
        """Raise the OSError that the sending end causes (a reset, mostly) once the receiving end would learn of it."""
        try:
            yield
        except OSError:
            await self.passage(self.due())
            raise


class Flow:
    """One direction of one connection. What was taken from the source is held until it may be given to the sink."""

    def __init__(self, *, way: Way, back: Way, source: socket.socket, sink: socket.socket) -> None:
        self._way, self._back, self._source, self._sink = way, back, source, sink
        self._parcels: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()  # when due, what; bounded by _room
        self._held = 0
        self._room = asyncio.Event()
        self._room.set()

    async def take(self) -> None:
        data = b"more"  # an empty chunk, the last, says that the source has closed
        while data:
            await self._room.wait()
            await self._way.passable.wait()  # unread, the sender's window fills: to it, nothing arrives
            async with self._way.news():
                data = await asyncio.get_running_loop().sock_recv(self._source, CHUNK)
            self._hold(len(data) + PARCEL_COST)
            self._parcels.put_nowait((self._way.due(), data))
            await asyncio.sleep(0)  # sock_recv doesn't yield while there is data; others want their turn

    async def give(self) -> None:
        data = b"more"
        while data:
            due, data = await self._parcels.get()
            await self._way.passage(due)
            async with self._back.news():
                await self._send(data)
            self._way.moved += len(data)
            self._hold(-len(data) - PARCEL_COST)

    def _hold(self, more: int) -> None:
        self._held += more
        (self._room.set if self._held < HELD_AT_MOST else self._room.clear)()

    async def _send(self, data: bytes) -> None:
        if data:
            await asyncio.get_running_loop().sock_sendall(self._sink, data)
        else:
            self._sink.shutdown(socket.SHUT_WR)


async def _exchange(dialer: socket.socket, dialed: socket.socket, there: Way, back: Way) -> None:
    """Relay until both ends have closed. Raises a group of OSError if one resets the connection instead."""
    to = Flow(way=there, back=back, source=dialer, sink=dialed)
    fro = Flow(way=back, back=there, source=dialed, sink=dialer)
    async with asyncio.TaskGroup() as group:
        for work in (to.take, to.give, fro.take, fro.give):
            group.create_task(work())
    for end in (dialer, dialed):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FLUSH_ON_CLOSE)


def _prepare(end: socket.socket) -> socket.socket:
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)  # until both ends have closed
    return end


def _keep(work: Coroutine[Any, Any, None], owned: socket.socket, among: Tasks) -> None:
    """Run it, then close what it owns: from outside, as a task cancelled before its first step runs no code at all."""
    task = asyncio.create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)
    task.add_done_callback(lambda _: owned.close())


async def _cancel(*groups: Tasks) -> None:
    tasks = set[asyncio.Task[None]]().union(*groups)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Links:
    """The ways of a lab, and the connections that go by them."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        pairs = [pair for link in spec.links for pair in (link.pair, link.pair[::-1])]
        self._ways = {pair: Way() for pair in pairs}
        self._dialed: dict[Pair, Tasks] = {pair: set() for pair in pairs}  # the live connections
        self._attending: Tasks = set()  # who accepts, and who converses on the control socket

    async def serve(self, stop: asyncio.Event) -> None:
        """Relay until ``stop`` is set, then reset all connections. Raises LinksError if an address can't be had."""
        try:
            self._open()
            await stop.wait()
            self._spec.control.unlink(missing_ok=True)
        except OSError as error:
            raise LinksError(f"the links can't be opened; does another lab run here? {error}") from error
        finally:
            await _cancel(self._attending, *self._dialed.values())

    def _open(self) -> None:
        for link in self._spec.links:
            # What _prepare sets here, Linux gives to each socket accepted here.
            door = _prepare(socket.create_server(link.listen, backlog=1024))
            _keep(self._accept(door, partial(self._carry, link), self._dialed[link.pair]), door, self._attending)
        # Last: who can ask knows that all is ready, and a second lab fails before it takes the socket of the first.
        door = socket.socket(socket.AF_UNIX)
        _keep(self._accept(door, self._converse, self._attending), door, self._attending)
        door.setblocking(False)
        self._spec.control.unlink(missing_ok=True)  # left by a process that was killed
        door.bind(str(self._spec.control))
        door.listen()

    async def _accept(self, door: socket.socket, welcome: Welcome, guests: Tasks) -> None:
        while True:
            try:
                guest, _ = await asyncio.get_running_loop().sock_accept(door)
            except OSError:  # no file descriptor is left, or the guest didn't wait
                await asyncio.sleep(0.1)
                continue
            _keep(welcome(guest), guest, guests)

    async def _carry(self, link: Link, dialer: socket.socket) -> None:
        there, back = self._ways[link.pair], self._ways[link.pair[::-1]]
        if "cut" in (there.state, back.state):
            return
        with _prepare(socket.socket()) as dialed:
            try:
                await there.passage(there.due())
                await back.passage(back.due())
                await asyncio.get_running_loop().sock_connect(dialed, link.target)
                await _exchange(dialer, dialed, there, back)
            except* OSError:
                pass  # one end refused or reset: closed now, both are reset

    async def _converse(self, guest: socket.socket) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        with suppress(OSError):  # the guest may leave when it likes
            while data := await loop.sock_recv(guest, CHUNK):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > CHUNK:  # no request is that long: answer it as a mistake, rather than hold more of it
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    await loop.sock_sendall(guest, json.dumps(await self.answer(line)).encode() + b"\n")

    async def answer(self, line: bytes) -> dict[str, Any]:
        """``{"links": […]}``, the ways that the request is about as they are now; or ``{"error": sentence}``."""
        try:
            request = parse_request(line)
            pairs = self._known(request)
            await self._obey(request, pairs)
            return {"links": [self._row(pair) for pair in pairs]}
        except LinksError as error:
            return {"error": str(error)}

    def _known(self, request: Request) -> list[Pair]:
        pairs = request.pairs() if request.between else list(self._ways)
        if not self._ways.keys() >= set(pairs):
            sites = _named({site for pair in self._ways for site in pair})
            raise LinksError(f"there is no link between {' and '.join(request.between)}; the sites are {sites}")
        return pairs

    async def _obey(self, request: Request, pairs: list[Pair]) -> None:
        for pair in pairs:
            if request.do == "delay":
                self._ways[pair].delay = request.round_trip_ms / 2000
            elif request.do in BECOMES:
                self._ways[pair].become(BECOMES[request.do])
        if request.do == "cut":  # whoever dialed: a connection goes by both ways
            await _cancel(*(self._dialed[dialed] for pair in pairs for dialed in (pair, pair[::-1])))

    def _row(self, pair: Pair) -> dict[str, object]:
        """``connections`` are those that ``from`` dialed; the rest is about the way that data goes."""
        way = self._ways[pair]
        ends = {"from": pair[0], "to": pair[1], "state": way.state}
        return ends | {"delay_ms": way.delay * 1000, "connections": len(self._dialed[pair]), "bytes": way.moved}


async def ask(control: Path, request: dict[str, object]) -> dict[str, Any]:
    """Put one request to the links process; return once it has taken effect. Raises LinksError."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_unix_connection(control)
            with closing(writer):
                writer.write(json.dumps(request).encode() + b"\n")
                writer.write_eof()
                line = (await reader.read()).partition(b"\n")[0]
    except OSError as error:
        raise LinksError(f"no links process answers at {control}; is the lab running? {error}") from error
    answer: dict[str, Any] = json.loads(line or b'{"error": "the links process ended before it answered"}')
    if "error" in answer:
        raise LinksError(answer["error"])
    return answer


def ask_now(control: Path, request: dict[str, object]) -> dict[str, Any]:
    """``ask``, for who has no event loop."""
    return asyncio.run(ask(control, request))


async def _serve_until_told(spec: Spec) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Links(spec).serve(stop)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def main() -> None:
    """``python -m cheops.lab.links SPEC.json``: relay until SIGTERM, then exit with 0."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m cheops.lab.links SPEC.json")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two a connection, and 1024 would soon be reached
    try:
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            runner.run(_serve_until_told(read_spec(Path(sys.argv[1]))))
    except LinksError as error:
        sys.exit(f"cheops.lab.links: {error}")


if __name__ == "__main__":
    main()
