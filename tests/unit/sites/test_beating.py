"""A heart that beats over a transport: distances, and whatever peers may answer."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from cheops.errors import AgentAway, BadHeartbeat, NotAMember, SiteUnreachable
from cheops.model import Distances, PeerState, RoundTrip
from cheops.ports import DISTANCES, HEARTBEAT
from cheops.sites.beating import ASKED_ANEW, distances_of
from members import ISSUED, Mesh, listed, up

TOLD = b'{"Site2": [0, 0, 0], "Site1": [1500.5, 20, 3], "Site9": [1, 2, 3, "more"]}'
HOSTILE = {
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"Site1"',
    "no UTF-8": b"\xff\xfe",
    "half": TOLD[:20],
    "deep": b'{"a":' * 100_000,
    "huge": b'{"site": "' + b"x" * (2 << 20) + b'"}',
    "a huge number": b'{"Site1": [' + b"9" * 400 + b", 0, 0]}",
    "digits without end": b'{"Site1": [' + b"9" * 5_000 + b", 0, 0]}",
    "not a number": b'{"Site1": [NaN, 0, 0]}',
    "without end": b'{"Site1": [Infinity, 0, 0]}',
    "negative": b'{"Site1": [-1, 0, 0]}',
    "too few": b'{"Site1": [1, 2]}',
    "texts": b'{"Site1": ["1", "2", "3"]}',
    "a text for a row": b'{"Site1": "123"}',
    "truths": b'{"Site1": [true, false, true]}',
    "an object": b'{"Site1": {"us": 1}}',
    "site: null": b'{"site": null, "digest": 3}',
    "site: wrong types": b'{"site": [1, "x", {}, [], null]}',
    "a heartbeat with a wrong roll": b'{"site": ["Site2", 2, "a:1", 9, 0], "roll": {"a": 1}}',
}


def trips(found: Distances | None) -> dict[str, float]:
    assert found
    return {site: trip.us for site, trip in found.of.items()}


def test_what_a_peer_tells_of_its_distances() -> None:
    found = distances_of(TOLD)
    assert trips(found) == {"Site2": 0, "Site1": 1500.5, "Site9": 1}
    assert (found.of["Site1"], found.age) == (RoundTrip(us=1500.5, spread_us=20, age=3), 0)


@pytest.mark.parametrize("told", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_distances(told: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — its kinds are json's
        distances_of(told)


def test_its_own_distances_a_site_knows_and_tells() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        own = await one.beating.distances("Site1")
        assert trips(own) == {"Site1": 0, "Site2": 0, "Site3": 0}
        assert distances_of(one.beating.distances_told()) == own

    mesh.run(story())


class Counting:
    """Site2's agent as it tells its distances, and how often it was asked."""

    def __init__(self, mesh: Mesh) -> None:
        self.asked, self.told = 0, TOLD
        self._before = mesh.network.agents["Site2"]
        mesh.network.agents["Site2"] = self

    async def __call__(self, origin: str, path: str, body: bytes | None) -> bytes:
        if path != DISTANCES:
            return await self._before(origin, path, body)
        self.asked += 1
        return self.told


def test_a_centre_is_asked_and_within_a_second_not_again() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        site2 = Counting(mesh)
        first = await one.beating.distances("Site2")
        assert (first, site2.asked) == (distances_of(TOLD), 1)
        site2.told = b'{"Site2": [0, 0, 0]}'
        mesh.clock.now += 0.75
        assert await one.beating.distances("Site2") == replace(distances_of(TOLD), age=0.75)
        assert site2.asked == 1
        mesh.clock.now += ASKED_ANEW - 0.75
        assert trips(await one.beating.distances("Site2")) == {"Site2": 0}
        assert site2.asked == 2

    mesh.run(story())


def test_of_a_centre_that_cannot_be_asked_what_it_said_last_counts_with_its_age() -> None:
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        site2 = Counting(mesh)
        assert await one.beating.distances("Site2")
        mesh.network.cut("Site1", "Site2")
        mesh.clock.now += ASKED_ANEW
        last = await one.beating.distances("Site2")
        assert last
        assert last.age == pytest.approx(ASKED_ANEW, abs=0.01)
        await mesh.until(lambda: one.peers()["Site2"].state is PeerState.DOWN)
        later = await one.beating.distances("Site2")
        assert later
        assert ASKED_ANEW < later.age < 60
        assert site2.asked == 1

    mesh.run(story())


def test_what_its_heartbeats_said_counts_as_well() -> None:
    """Site2 was never asked for its distances; it told them by the way."""
    mesh = Mesh()

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        await asyncio.sleep(7)
        mesh.network.cut("Site1", "Site2")
        mesh.stop("Site2")
        found = await one.beating.distances("Site2")
        assert found
        assert set(found.of) == {"Site1", "Site2", "Site3"}
        assert 0 < found.age < 7

    mesh.run(story())


@pytest.mark.parametrize("centre", ["Site2", "Site9"])
def test_nothing_is_known_of_who_never_spoke(centre: str) -> None:
    mesh = Mesh()

    async def story() -> None:
        one = mesh.start(listed("Site1"))
        assert await one.beating.distances(centre) is None

    mesh.run(story())


@pytest.mark.parametrize("told", HOSTILE.values(), ids=HOSTILE)
def test_an_answer_that_is_none_changes_nothing(told: bytes) -> None:
    """Neither who is a member nor what is known of distances; the peer is as one that doesn't answer."""
    mesh = Mesh()

    async def answer(origin: str, path: str, body: bytes | None) -> bytes:
        return told

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        roll, site2 = one.beating.heart.roll, Counting(mesh)
        assert await one.beating.distances("Site2")
        mesh.stop("Site2")
        mesh.network.agents["Site2"] = answer
        await asyncio.sleep(ASKED_ANEW)
        assert trips(await one.beating.distances("Site2")) == trips(distances_of(TOLD))
        await mesh.until(lambda: one.peers()["Site2"].state is PeerState.DOWN)
        assert one.beating.heart.roll is roll
        assert one.peers()["Site3"].state is PeerState.UP
        assert trips(await one.beating.distances("Site2")) == trips(distances_of(TOLD))
        mesh.network.agents["Site2"] = site2
        await mesh.until(lambda: up(one) == 2)

    mesh.run(story())


def heartbeat(**fields: Any) -> bytes:
    return json.dumps({"site": ["Site2", 2, "192.0.2.2:7443", ISSUED, 0], **fields}).encode()


@pytest.mark.parametrize("wire", HOSTILE.values(), ids=HOSTILE)
def test_a_heartbeat_that_is_none_is_refused_and_changes_nothing(wire: bytes) -> None:
    mesh = Mesh()

    async def story() -> None:
        one = mesh.start(listed("Site1"))
        roll = one.beating.heart.roll
        with pytest.raises(BadHeartbeat):
            one.beating.receive(wire, "Site2", ISSUED)
        assert one.beating.heart.roll is roll

    mesh.run(story())


@pytest.mark.parametrize(
    ("sender", "issued", "why"),
    [
        ("Site3", ISSUED, "Site3 calls itself Site2"),
        ("Site2", ISSUED - 1, "its certificate is newer than it is"),
        ("", ISSUED, " calls itself Site2"),
    ],
)
def test_nor_is_one_taken_that_is_not_its_certificate_s(sender: str, issued: int, why: str) -> None:
    mesh = Mesh()

    async def story() -> None:
        one = mesh.start(listed("Site1"))
        roll = one.beating.heart.roll
        with pytest.raises(NotAMember, match=why):
            one.beating.receive(heartbeat(), sender, issued)
        assert one.beating.heart.roll is roll
        assert one.beating.receive(heartbeat(), "Site2", ISSUED)
        assert one.beating.heart.roll is not roll

    mesh.run(story())


def test_a_peer_whose_agent_is_away_is_up() -> None:
    mesh = Mesh()

    async def away(origin: str, path: str, body: bytes | None) -> bytes:
        raise AgentAway("the agent can't be asked: it answered 503", site="Site2", why="it answered 503")

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        mesh.stop("Site2")
        mesh.network.agents["Site2"] = away
        await mesh.until(lambda: one.peers()["Site2"].agent_away)
        await asyncio.sleep(10)
        assert one.peers()["Site2"].state is PeerState.UP

    mesh.run(story())


def test_why_a_peer_is_down_is_told() -> None:
    mesh = Mesh()

    async def gone(origin: str, path: str, body: bytes | None) -> bytes:
        assert path == HEARTBEAT
        raise SiteUnreachable(
            "the agent of Site2 can't be asked: no route to host", site="Site2", why="no route to host"
        )

    async def story() -> None:
        one, _, _ = mesh.start_all()
        await mesh.all_up()
        mesh.stop("Site2")
        mesh.network.agents["Site2"] = gone
        await mesh.until(lambda: one.peers()["Site2"].note == "no route to host")
        assert one.peers()["Site2"].state is not PeerState.UP

    mesh.run(story())


def test_a_heart_that_stops_sends_nothing_more() -> None:
    mesh = Mesh()

    async def mute(origin: str, path: str, body: bytes | None) -> bytes:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(origin)
        raise AssertionError("it slept for an hour")

    ended: list[str] = []

    async def story() -> None:
        mesh.start(listed("Site1", "Site2"))
        mesh.network.agents["Site2"] = mute
        await asyncio.sleep(0.5)
        mesh.stop("Site1")
        await mesh.until(lambda: ended != [])
        asked = len(ended)
        await asyncio.sleep(5)
        assert ended == ["Site1"] * asked

    mesh.run(story())
