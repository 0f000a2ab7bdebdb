"""The links of a lab: real sockets on 127.0.35.x, both ends held by the test, on both event loops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from cheops.lab.links import Link, Links, LinksError, Request, Spec, ask, ask_now, parse_request, read_spec

HOSTS = {"Site1": "127.0.35.1", "Site2": "127.0.35.2"}
THERE, BACK = ("Site1", "Site2"), ("Site2", "Site1")
WITHIN = 10.0
QUIET = 0.15  # how long nothing must have happened to believe that nothing will

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run_story(story: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(story, 60))

    return run_story


@dataclass
class End:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), WITHIN)

    async def hear_all(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), WITHIN)

    async def hears_nothing(self) -> bool:
        """Neither bytes, nor a close, nor a reset."""
        try:
            await asyncio.wait_for(self.reader.read(1), QUIET)
        except TimeoutError:
            return True
        return False

    async def is_reset(self) -> bool:
        try:
            await self.hear_all()
        except ConnectionError:
            return True
        return False

    async def leave(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await asyncio.wait_for(self.writer.wait_closed(), WITHIN)


async def echo(end: End) -> None:
    while data := await end.reader.read(65536):
        await end.say(data)
    end.writer.write_eof()


class Lab:
    """Two sites and their links. ``met`` holds the dialed ends, in the order in which they were accepted."""

    def __init__(self, control: Path) -> None:
        self.control = control
        self.met: asyncio.Queue[End] = asyncio.Queue()
        self.ends: list[End] = []
        self.listen = {pair: (HOSTS[pair[0]], free_port(HOSTS[pair[0]])) for pair in (THERE, BACK)}

    def spec(self, ports: dict[str, int]) -> Spec:
        return Spec(
            control=self.control,
            links=tuple(
                Link(pair=pair, listen=at, target=(HOSTS[pair[1]], ports[pair[1]])) for pair, at in self.listen.items()
            ),
        )

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.append(End(reader, writer))
        self.met.put_nowait(self.ends[-1])

    async def dial(self, pair: tuple[str, str] = THERE) -> End:
        reader, writer = await asyncio.open_connection(*self.listen[pair])
        self.ends.append(End(reader, writer))
        return self.ends[-1]

    async def connect(self, pair: tuple[str, str] = THERE) -> tuple[End, End]:
        near = await self.dial(pair)
        return near, await asyncio.wait_for(self.met.get(), WITHIN)

    async def refuses(self, pair: tuple[str, str]) -> bool:
        try:
            return await (await self.dial(pair)).is_reset()
        except ConnectionError:
            return True

    async def links(self, do: str, pair: tuple[str, str] = THERE, **more: object) -> None:
        await ask(self.control, {"do": do, "between": pair, **more})

    async def row(self, pair: tuple[str, str]) -> dict[str, Any]:
        rows = (await ask(self.control, {"do": "status"}))["links"]
        return next(row for row in rows if (row["from"], row["to"]) == pair)


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def until(holds: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(WITHIN):
        while not await holds():  # what another process does sets no Event here
            await asyncio.sleep(0.01)


async def answers(control: Path) -> bool:
    with suppress(LinksError):
        return bool(await ask(control, {"do": "status"}))
    return False


@asynccontextmanager
async def two_sites(tmp_path: Path) -> AsyncIterator[Lab]:
    lab, stop = Lab(tmp_path / "links.sock"), asyncio.Event()
    servers = {site: await asyncio.start_server(lab.meet, host, 0) for site, host in HOSTS.items()}
    ports = {site: server.sockets[0].getsockname()[1] for site, server in servers.items()}
    serving = asyncio.create_task(Links(lab.spec(ports)).serve(stop))
    try:
        await until(lambda: answers(lab.control))
        yield lab
    finally:
        stop.set()
        await serving
        for end in lab.ends:
            await end.leave()
        for server in servers.values():
            server.close()
            await server.wait_closed()


def test_carries_bytes_both_ways_and_counts_them(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            near, far = await lab.connect()
            echoing = asyncio.create_task(echo(far))
            message = os.urandom(300_000)
            near.writer.write(message)
            assert await near.hear(len(message)) == message
            assert await lab.row(THERE) == {
                "from": "Site1",
                "to": "Site2",
                "state": "open",
                "delay_ms": 0,
                "connections": 1,
                "bytes": len(message),
            }
            assert (await lab.row(BACK))["connections"] == 0
            near.writer.write_eof()
            assert await near.hear_all() == b""
            await echoing

    run(story())


def test_half_close_is_carried_while_the_reverse_goes_on(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            near, far = await lab.connect()
            await near.say(b"question")
            near.writer.write_eof()
            assert await far.hear_all() == b"question"
            await far.say(b"answer, after the question ended")
            far.writer.write_eof()
            assert await near.hear_all() == b"answer, after the question ended"
            await until(lambda: forgotten(lab))

    run(story())


async def forgotten(lab: Lab) -> bool:
    return bool((await lab.row(THERE))["connections"] == 0)


def test_a_reset_of_one_end_reaches_the_other(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            near, far = await lab.connect()
            await far.say(b"x")
            await near.hear(1)
            break_off(far)
            assert await near.is_reset()
            await until(lambda: forgotten(lab))

    run(story())


@pytest.mark.parametrize("oneway", [False, True])
def test_cut_resets_live_and_new_connections_whoever_dialed(run: Run, tmp_path: Path, oneway: bool) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            ends = [*await lab.connect(THERE), *await lab.connect(BACK)]
            await lab.links("cut", oneway=oneway)
            assert [await end.is_reset() for end in ends] == [True] * 4
            assert await lab.refuses(THERE)
            assert await lab.refuses(BACK)
            assert (await lab.row(THERE))["state"] == "cut"
            assert (await lab.row(BACK))["state"] == ("open" if oneway else "cut")
            await lab.links("heal")
            near, far = await lab.connect()
            await near.say(b"again")
            assert await far.hear(5) == b"again"

    run(story())


def test_a_target_that_refuses_resets_the_dialer(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        host = HOSTS["Site1"]
        at, nobody = (host, free_port(host)), (host, free_port(host))
        spec = Spec(control=tmp_path / "c", links=(Link(pair=THERE, listen=at, target=nobody),))
        stop = asyncio.Event()
        serving = asyncio.create_task(Links(spec).serve(stop))
        await until(lambda: answers(spec.control))
        end = End(*await asyncio.open_connection(*at))
        assert await end.is_reset()
        await end.leave()
        stop.set()
        await serving
        assert not spec.control.exists()

    run(story())


def test_what_a_blackhole_holds_arrives_after_healing(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            near, far = await lab.connect()
            await lab.links("blackhole")
            message = os.urandom(30_000_000)
            saying = asyncio.create_task(near.say(message))
            assert await far.hears_nothing()
            await far.say(b"anyone?")
            assert await near.hears_nothing()
            assert not saying.done()
            await lab.links("heal")
            assert await far.hear(len(message)) == message
            assert await near.hear(7) == b"anyone?"
            await saying

    run(story())


@pytest.mark.parametrize("politely", [True, False])
def test_that_an_end_left_is_learned_only_after_healing(run: Run, tmp_path: Path, politely: bool) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            near, far = await lab.connect()
            await lab.links("blackhole", oneway=True)
            if politely:
                near.writer.close()
            else:
                break_off(near)
            await far.say(b"are you there?")
            assert await far.hears_nothing()
            await lab.links("heal")
            if politely:
                assert await far.hear_all() == b""
            else:
                assert await far.is_reset()

    run(story())


def break_off(end: End) -> None:
    end.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    end.writer.transport.abort()


def test_a_blackhole_answers_no_new_connection_until_healed(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            await lab.links("blackhole")
            near = await lab.dial()
            await near.say(b"hello")
            assert await near.hears_nothing()
            assert lab.met.empty()
            await lab.links("heal")
            assert await (await lab.met.get()).hear(5) == b"hello"

    run(story())


def test_a_cut_ends_what_waits_in_a_blackhole(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            live = await lab.connect()
            await lab.links("blackhole")
            waiting = await lab.dial()
            await live[0].say(b"never read")
            await lab.links("cut")
            assert [await end.is_reset() for end in (*live, waiting)] == [True] * 3

    run(story())


def test_a_blackhole_may_be_one_way(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            near, far = await lab.connect()
            await lab.links("blackhole", THERE, oneway=True)
            await near.say(b"lost?")
            await far.say(b"news")
            assert await near.hear(4) == b"news"
            assert await far.hears_nothing()
            await lab.links("heal", THERE, oneway=True)
            assert await far.hear(5) == b"lost?"

    run(story())


def test_delay_is_a_round_trip_for_each_exchange_and_survives_healing(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            await lab.links("delay", round_trip_ms=60)
            await lab.links("blackhole")
            await lab.links("heal")
            begun = time.monotonic()
            near, far = await lab.connect()
            assert 0.06 <= time.monotonic() - begun < 0.5
            echoing = asyncio.create_task(echo(far))
            for _ in range(3):
                begun = time.monotonic()
                await near.say(b"ping")
                assert await near.hear(4) == b"ping"
                assert 0.06 <= time.monotonic() - begun < 0.5
            near.writer.write_eof()
            await echoing

    run(story())


def test_delay_does_not_limit_throughput(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            await lab.links("delay", round_trip_ms=50)
            near, far = await lab.connect()
            message, begun = os.urandom(20_000_000), time.monotonic()
            saying = asyncio.create_task(near.say(message))
            assert await far.hear(len(message)) == message
            assert time.monotonic() - begun < 3
            await saying

    run(story())


MISTAKES = {
    b"cut": "one line of JSON",
    b"\xff": "one line of JSON",
    b"[" * 30_000: "one line of JSON",
    b"[]": '"do" is one of status, delay, cut, heal, blackhole',
    b'{"do": "sever"}': "not 'sever'",
    b'{"do": ["cut"]}': "not ['cut']",
    b'{"do": "cut"}': "cut takes between, oneway, but was given nothing",
    b'{"do": "status", "verbose": true}': "status takes nothing, but was given verbose",
    b'{"do": "cut", "between": ["Site1"]}': "two different sites",
    b'{"do": "cut", "between": "Site1"}': "two different sites",
    b'{"do": "cut", "between": ["Site1", "Site1"]}': "two different sites",
    b'{"do": "cut", "between": ["Site1", 2]}': "two different sites",
    b'{"do": "cut", "between": ["Site1", "Site9"]}': "the sites are Site1, Site2",
    b'{"do": "cut", "between": ["Site1", "Site2"], "oneway": "yes"}': "true or false, not 'yes'",
    b'{"do": "delay", "between": ["Site1", "Site2"]}': "between, round_trip_ms",
    b'{"do": "delay", "between": ["Site1", "Site2"], "round_trip_ms": 20, "oneway": true}': "but was given between, on",
    b'{"do": "delay", "between": ["Site1", "Site2"], "round_trip_ms": -1}': "from 0 to 60000, not -1",
    b'{"do": "delay", "between": ["Site1", "Site2"], "round_trip_ms": NaN}': "not nan",
    b'{"do": "delay", "between": ["Site1", "Site2"], "round_trip_ms": true}': "not True",
}


def test_mistakes_are_answered_and_change_nothing(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        async with two_sites(tmp_path) as lab:
            before = await ask(lab.control, {"do": "status"})
            asking = End(*await asyncio.open_unix_connection(lab.control))
            for line, sentence in MISTAKES.items():
                await asking.say(line + b"\n")
                assert sentence in json.loads(await asking.reader.readline())["error"]
            await asking.leave()
            with pytest.raises(LinksError, match="not 'sever'"):
                await ask(lab.control, {"do": "sever"})
            with pytest.raises(LinksError):
                await ask(lab.control, {"do": "x" * 1_000_000})
            assert await ask(lab.control, {"do": "status"}) == before

    run(story())


def test_requests_are_checked_when_built() -> None:
    assert parse_request(b'{"do": "cut", "between": ["Site1", "Site2"]}').pairs() == [THERE, BACK]
    assert Request(do="cut", between=THERE, oneway=True).pairs() == [THERE]
    with pytest.raises(LinksError):
        Request(do="cut")


def test_asking_nobody_says_so(tmp_path: Path) -> None:
    with pytest.raises(LinksError, match="is the lab running"):
        ask_now(tmp_path / "nobody.sock", {"do": "status"})


ENTRY = {"from": "Site1", "to": "Site2", "listen": "127.0.35.1:7001", "target": "127.0.35.2:7002"}


@pytest.mark.parametrize("wrong", [{"to": "Site1"}, {"from": 1}, {"listen": "here"}, {"listen": "127.0.35.1:0"}])
def test_a_wrong_link_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"control": "c", "links": [ENTRY]}))
    assert read_spec(spec).links[0].target == ("127.0.35.2", 7002)
    spec.write_text(json.dumps({"control": "c", "links": [ENTRY | wrong]}))
    with pytest.raises(LinksError):
        read_spec(spec)


@pytest.mark.parametrize("content", ["{", "[]", '{"control": "c"}', '{"control": 1, "links": []}'])
def test_a_wrong_spec_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "spec.json").write_text(content)
    with pytest.raises(LinksError, match=r"spec\.json should hold"):
        read_spec(tmp_path / "spec.json")


@dataclass(frozen=True, kw_only=True)
class Process:
    """The links process, with one link, that Site1 dials and a socket of the test answers."""

    running: subprocess.Popen[str]
    spec: Path
    control: Path
    listen: tuple[str, int]
    server: socket.socket


@contextmanager
def process(tmp_path: Path) -> Iterator[Process]:
    control, listen, spec = tmp_path / "links.sock", (HOSTS["Site1"], free_port(HOSTS["Site1"])), tmp_path / "spec.json"
    with socket.create_server((HOSTS["Site2"], 0)) as server:
        at, to = (":".join(map(str, address)) for address in (listen, server.getsockname()))
        spec.write_text(json.dumps({"control": str(control), "links": [ENTRY | {"listen": at, "target": to}]}))
        with start(spec) as running:
            try:
                asyncio.run(until(lambda: answers(control)))
                yield Process(running=running, spec=spec, control=control, listen=listen, server=server)
            finally:
                running.kill()


def start(spec: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "cheops.lab.links", str(spec)], stderr=subprocess.PIPE, text=True)


def test_the_process_runs_until_sigterm(tmp_path: Path) -> None:
    with process(tmp_path) as links, socket.create_connection(links.listen) as near, links.server.accept()[0] as far:
        near.sendall(b"hello")
        assert far.recv(5, socket.MSG_WAITALL) == b"hello"
        links.running.send_signal(signal.SIGTERM)
        assert links.running.communicate(timeout=WITHIN)[1] == ""
        assert links.running.returncode == 0
        assert not links.control.exists()
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_second_lab_does_not_harm_the_first(tmp_path: Path) -> None:
    with process(tmp_path) as links, start(links.spec) as second:
        assert "does another lab run here?" in second.communicate(timeout=WITHIN)[1]
        assert second.returncode == 1
        assert len(ask_now(links.control, {"do": "status"})["links"]) == 2


def test_the_memory_is_constant_while_the_receiver_does_not_read(tmp_path: Path) -> None:
    with process(tmp_path) as links, socket.create_connection(links.listen) as near, links.server.accept()[0] as far:
        before, size = resident(links.running.pid), 200_000_000
        assert fill(near, size) < size
        assert resident(links.running.pid) - before < 16_000_000
        ask_now(links.control, {"do": "cut", "between": THERE})
        with pytest.raises(ConnectionError):
            near.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            read_all(far)


def fill(near: socket.socket, size: int) -> int:
    """Send up to ``size`` bytes; stop when nothing has been accepted for a second. Return how many were."""
    near.settimeout(1)
    sent, chunk = 0, b"x" * 65536
    with suppress(TimeoutError):
        while sent < size:
            sent += near.send(chunk)
    return sent


def read_all(far: socket.socket) -> None:
    while far.recv(65536):
        pass


def resident(pid: int) -> int:
    """Bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) * 1024
