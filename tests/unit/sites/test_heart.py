"""The protocol of a site: what it asks, answers, learns and refuses, with values alone."""

import itertools
import json
from dataclasses import replace
from random import Random

import pytest

from cheops.errors import BadHeartbeat, BadRequest, NotAMember
from cheops.model import PeerState
from cheops.sites.events import Happening
from cheops.sites.gossip import RUMOUR_SECONDS, News, Rumours, times_told
from cheops.sites.heart import Heart
from cheops.sites.message import MOST_BYTES, MOST_MANAGED, MOST_TOLD, Message, Near, Rumour, decoded
from cheops.sites.peer import Probe
from cheops.sites.roll import Member, Roll, Standing, marked, spanned_of
from cheops.sites.rounds import EACH_ROUND, EXTRA, EXTRA_AT_START, FULL

WALL = 1_790_000_000.0


def member(number: int, generation: int = 100) -> Member:
    return Member(name=f"Site{number}", number=number, mesh=f"10.0.0.1:{7000 + number}", generation=generation)


def heart(*others: Member, learns: bool = True) -> Heart:
    """Site1, which knows these others."""
    chance, roll = Random(1).random, Roll.of(*others)
    return Heart(member(1), roll=roll, incarnation="a", version="1", chance=chance, now=0.0, learns=learns)


def said(by: Member, **fields: object) -> Message:
    return Message(sender=by, incarnation="b", version="1", **fields)  # type: ignore[arg-type]


def hear(of: Heart, message: Message, now: float = 0.3) -> Message:
    sender = message.sender
    return of.receive(message, sender=sender.name, generation=sender.generation, now=now, wall=WALL + now)


def beats(of: Heart, seconds: float, start: float = 0.0) -> list[Probe]:
    """All it sends in so many seconds, in which nothing is answered nor lost."""
    probes, now = [], start
    while now < start + seconds:
        probes += of.beat(now, WALL + now)
        now = of.next_at
    return probes


def meet(of: Heart, *others: Member) -> None:
    """Has each of them answer once, after 20 ms."""
    for other in others:
        probe = Probe(peer=other.name, mesh=other.mesh, message=said(of.me, sent_at=WALL), at=0.0)
        of.answered(probe, said(other, digest=of.roll.digest, sent_at=WALL + 0.01), 0.02, WALL + 0.02)


def happened(of: Heart) -> list[tuple[Happening, str]]:
    return [(event.what, event.site) for event in of.take_events()]


# Asking.


def test_few_peers_are_all_asked_at_once() -> None:
    site = heart(member(2), member(3))
    assert sorted(probe.peer for probe in site.beat(0.0, WALL)) == ["Site2", "Site3"]
    assert site.next_at == pytest.approx(0.1)


def test_a_probe_says_where_to() -> None:
    (probe,) = heart(member(2)).beat(0.0, WALL)
    assert (probe.mesh, probe.at, probe.message.sent_at) == ("10.0.0.1:7002", 0.0, WALL)


def test_who_doesnt_answer_is_asked_again_at_once() -> None:
    asked = [probe.at for probe in beats(heart(member(2)), 0.85)]
    assert len(asked) == 3
    assert all(0.3 <= later - sooner <= 0.41 for sooner, later in itertools.pairwise(asked))


def test_the_load_of_a_site_does_not_grow_with_their_number() -> None:
    site = heart(*(member(number) for number in range(2, 300)))
    starting = beats(site, 6.0)
    assert len(starting) <= 7 * (EACH_ROUND + EXTRA_AT_START + 1)
    sent = beats(site, 9.5, start=site.next_at)
    assert len(sent) <= 11 * (EACH_ROUND + EXTRA + 1)


def test_many_peers_are_each_asked_in_turn() -> None:
    others = [member(number) for number in range(2, 50)]
    site = heart(*others)
    meet(site, *others)
    asked: set[str] = set()
    for number in range(120):
        now = 0.1 + number * 0.1
        for probe in site.beat(now, WALL):
            asked.add(probe.peer)
            site.answered(probe, said(site.roll[probe.peer], digest=site.roll.digest), now, WALL)
    assert asked == {other.name for other in others}
    assert len(others) > FULL


# Answers.


def test_an_answer_makes_a_peer_up_and_measures_it() -> None:
    site = heart(member(2))
    (probe,) = site.beat(0.0, WALL)
    site.answered(probe, said(member(2), sent_at=WALL + 3600.06, held=0.02), 0.1, WALL + 0.1)
    view = site.peers(2.1)["Site2"]
    assert (view.state, view.incarnation, view.version) == (PeerState.UP, "b", "1")
    assert view.clock_offset == pytest.approx(3600, abs=0.01)
    assert view.round_trip is not None
    assert view.round_trip.us == pytest.approx(80_000)
    assert view.round_trip.age == pytest.approx(2.0)
    assert site.distances(2.1).of.keys() == {"Site1", "Site2"}


def test_an_envoy_without_its_agent_is_up() -> None:
    site = heart(member(2))
    (probe,) = site.beat(0.0, WALL)
    site.agent_away(probe, 0.02)
    view = site.peers(0.02)["Site2"]
    assert (view.state, view.agent_away) == (PeerState.UP, True)


def test_who_answers_under_another_name_does_not_count() -> None:
    site = heart(member(2), member(3))
    probe = site.beat(0.0, WALL)[0]
    other = member(5 - int(probe.peer[-1]))
    site.answered(probe, said(other), 0.02, WALL)
    view = site.peers(0.02)[probe.peer]
    assert (view.state, view.note) == (PeerState.SUSPECT, f"what answers at {probe.mesh} is {other.name}")


def test_what_a_peer_tells_of_its_distances_is_kept() -> None:
    site = heart(member(2))
    assert site.distances_of("Site2", 0.0) is None
    hear(site, said(member(2), near=(Near(site="Site3", us=900, spread_us=9, age=2),)), now=0.4)
    told = site.distances_of("Site2", 1.4)
    assert told is not None
    assert told.of["Site3"].us == 900
    assert told.of["Site3"].age == pytest.approx(3)
    assert (told.of["Site2"].us, told.age) == (0, pytest.approx(1))


# Members.


def test_a_stranger_with_a_certificate_joins() -> None:
    site = heart()
    hear(site, said(member(2)))
    assert happened(site) == [(Happening.JOINED, "Site2")]
    assert "Site2" in {probe.peer for probe in site.beat(0.5, WALL)}


def test_what_is_heard_of_others_is_passed_on_for_a_while() -> None:
    site = heart(member(2))
    hear(site, said(member(2), news=(member(3),)))
    told = [hear(site, said(member(2))).news for _ in range(20)]
    assert sum(member(3) in news for news in told) == times_told(2) - 1  # the first reply told it too


def test_seeds_are_no_news() -> None:
    site = heart(member(2, generation=0))
    assert all(record.name == "Site1" for probe in site.beat(0.0, WALL) for record in probe.message.news)


def test_rolls_that_differ_are_exchanged_whole() -> None:
    site = heart(member(2))
    assert hear(site, said(member(2), digest="00ff", want_roll=True)).roll == site.roll.told
    (probe,) = [probe for probe in beats(site, 1.0, start=0.5) if probe.peer == "Site2"][:1]
    site.answered(probe, said(member(2), digest="00ff"), 1.6, WALL)
    assert [probe.message.want_roll for probe in site.beat(1.6, WALL)] == [True]


def test_who_was_removed_needs_a_newer_certificate() -> None:
    site = heart(member(2), member(3))
    site.remove("Site2", 0.1)
    assert happened(site) == [(Happening.REMOVED, "Site2")]
    with pytest.raises(NotAMember, match="Site2 was removed") as refused:
        hear(site, said(member(2)))
    assert (refused.value.status, refused.value.problem()["standing"]) == (403, "removed")
    hear(site, said(member(2, generation=101)))
    assert happened(site) == [(Happening.JOINED, "Site2")]


@pytest.mark.parametrize("name", ["Site1", "Site9", "Site3"])
def test_who_can_not_be_removed(name: str) -> None:
    site = heart(member(2), member(3, generation=0))
    with pytest.raises(BadRequest, match=f"{name} can't be removed at Site1"):
        site.remove(name, 0.1)


def test_who_leaves_says_so_twice_and_is_quiet_then() -> None:
    site = heart(member(2))
    meet(site, member(2))
    site.leave(0.1)
    sent = [probe for probe in beats(site, 6.0, start=0.1) if probe.message.sender.standing is Standing.LEFT]
    assert sent
    assert beats(site, 3.0, start=6.1) == []


def test_a_site_that_was_removed_stops() -> None:
    site = heart(member(2))
    hear(site, said(member(2), news=(site.me.become(Standing.REMOVED),)))
    assert happened(site)[-1] == (Happening.REMOVED, "Site1")
    assert beats(site, 3.0, start=0.5) == []


def test_a_site_has_the_last_word_on_itself() -> None:
    site = heart(member(2))
    hear(site, said(member(2), news=(replace(site.me, revision=4, mesh="10.9.9.9:1"),)))
    assert site.roll["Site1"] == site.me == replace(member(1), revision=5)


def test_but_not_over_a_newer_certificate() -> None:
    site = heart(member(2))
    hear(site, said(member(2), news=(member(1, generation=200),)))
    assert (Happening.OUTDATED, "Site1") in happened(site)


def test_new_data_under_an_old_name_is_noticed() -> None:
    site = heart(member(2))
    hear(site, said(member(2)))
    site.take_events()
    hear(site, replace(said(member(2)), incarnation="c"))
    assert happened(site) == [(Happening.WIPED, "Site2")]
    assert site.peers(0.5)["Site2"].incarnation == "c"


def test_a_number_claimed_twice_is_told_and_not_used() -> None:
    site = heart(member(2))
    double = replace(member(3, generation=300), number=2)
    hear(site, said(double))
    meet(site, member(2), double)
    assert (Happening.CLASH, "Site3") in happened(site)
    assert "its number is that of Site2" in site.peers(1.0)["Site3"].note
    assert site.distances(1.0).of.keys() == {"Site1", "Site2"}


@pytest.mark.parametrize(
    ("claims", "sender", "generation", "why"),
    [
        (member(3), "Site2", 100, "Site2 calls itself Site3"),
        (member(1), "Site1", 100, "its own certificate"),
        (member(2, generation=101), "Site2", 100, "newer than it is"),
    ],
)
def test_who_is_not_what_it_says_is_refused(claims: Member, sender: str, generation: int, why: str) -> None:
    site = heart(member(2), member(3))
    before = site.roll
    with pytest.raises(NotAMember, match=why):
        site.receive(said(claims), sender=sender, generation=generation, now=0.1, wall=WALL)
    assert site.roll is before


def test_a_site_that_does_not_learn_knows_those_listed() -> None:
    site = heart(member(2), learns=False)
    hear(site, said(member(2), news=(member(3),), digest="00"))
    assert set(site.roll.members) == {"Site1", "Site2"}
    with pytest.raises(NotAMember, match="Site1 doesn't know Site3"):
        hear(site, said(member(3)))
    site.know(member(3, generation=0), now=0.5)
    hear(site, said(member(3)))
    assert site.roll["Site3"] == member(3)


# Gossip.


def test_a_rumour_has_a_peer_asked_and_is_not_believed() -> None:
    others = [member(number) for number in range(2, 30)]
    site = heart(*others)
    meet(site, *others)
    site.beat(0.1, WALL)  # the first round
    site.take_events()
    hear(site, said(member(2), rumours=(Rumour(site="Site9", dead=True, age=0.5),)), now=0.15)
    asked = {probe.peer for number in range(4) for probe in site.beat(0.2 + number / 10, WALL)}
    assert "Site9" in asked
    assert site.state_of("Site9") is PeerState.UP
    assert happened(site) == []


def test_a_rumour_is_heard_once_and_grows_old() -> None:
    rumours = Rumours()
    assert rumours.add(Rumour(site="Site2", dead=True, age=1.0), 10.0)
    assert not rumours.add(Rumour(site="Site2", dead=True, age=0.0), 11.0)
    assert not rumours.add(Rumour(site="Site3", dead=True, age=RUMOUR_SECONDS), 11.0)
    assert rumours.says_dead("Site2", 12.0)
    assert [rumour.age for rumour in rumours.take(20, 12.0)] == [3.0]
    assert not rumours.says_dead("Site2", 9.0 + RUMOUR_SECONDS)
    assert rumours.take(20, 9.0 + RUMOUR_SECONDS) == ()


def test_that_a_peer_lives_ends_the_rumour_of_its_death() -> None:
    rumours = Rumours()
    rumours.add(Rumour(site="Site2", dead=True, age=1.0), 10.0)
    assert rumours.add(Rumour(site="Site2", dead=False, age=0.0), 11.0)
    assert not rumours.says_dead("Site2", 11.0)


def test_news_are_told_the_least_told_first() -> None:
    news = News()
    for number in range(2, 14):
        news.add(member(number))
    assert {record.name for _ in range(2) for record in news.take(100)} == {f"Site{number}" for number in range(2, 14)}


# The wire.


def test_a_message_is_read_as_it_was_written() -> None:
    message = said(
        member(2),
        sequence=7,
        digest="00ff",
        sent_at=WALL,
        held=0.25,
        unanswered=0.0,
        want_roll=True,
        news=(member(3).become(Standing.LEFT), replace(member(4), managed=("catalog", "orders"))),
        roll=(),
        rumours=(Rumour(site="Site4", dead=True, age=1.5),),
        near=(Near(site="Site5", us=1, spread_us=2, age=3),),
    )
    assert decoded(message.encoded()) == message
    assert decoded(said(member(2)).encoded()) == said(member(2))


def test_a_version_that_knows_of_no_managed_services_reads_what_it_knows() -> None:
    """It takes the first of what follows the five for the standing, and skips the rest."""
    sender = replace(member(2), managed=("catalog",))
    row = json.loads(said(sender).encoded())["site"]
    assert row == ["Site2", 2, "10.0.0.1:7002", 100, 0, "member", ["catalog"]]
    assert decoded(json.dumps({"site": row[:6]}).encode()).sender == member(2)


def test_what_a_name_s_mark_says_is_read_as_it_was_written() -> None:
    words = ("catalog", "orders", marked("orders"))
    message = said(replace(member(2), managed=words), news=(replace(member(4), managed=words),))
    read = decoded(message.encoded())
    assert read == message
    assert spanned_of(read.sender.managed) == {"orders"}


def test_a_newer_version_may_say_more_and_an_older_one_less() -> None:
    row = ["Site2", 2, "10.0.0.1:7002", 100, 0]
    assert decoded(json.dumps({"site": row, "mood": "good"}).encode()) == Message(sender=member(2))


ROW = ["Site2", 2, "h:1", 100, 0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "site: it is missing"),
        ([], "it is no object"),
        ({"site": ["Site2", 2, "h:1"]}, "isn't a list of 5"),
        ({"site": ["../x", 2, "h:1", 100, 0]}, "doesn't look like"),
        ({"site": ["Site2", 0, "h:1", 100, 0]}, "is no site number"),
        ({"site": ["Site2", 2, "h", 100, 0]}, "doesn't look like"),
        ({"site": ["Site2", 2, "h:1", -1, 0]}, "isn't a whole number"),
        ({"site": ["Site2", 2, "h:1", 1, 0, "king"]}, "is no standing"),
        ({"site": [*ROW, "member", "catalog"]}, "isn't a list of at most"),
        ({"site": [*ROW, "member", ["catalog", 1]]}, "isn't a text"),
        ({"site": [*ROW, "member", ["a"] * (MOST_MANAGED + 1)]}, "isn't a list of at most"),
        ({"site": ROW, "sent": "now"}, "sent: 'now' isn't a number"),
        ({"site": ROW, "held": 1e300}, "held: 1e\\+300 isn't a number"),
        ({"site": ROW, "digest": "no"}, "digest: "),
        ({"site": ROW, "version": "1" * 300}, "version: "),
        ({"site": ROW, "news": [ROW] * (MOST_TOLD + 1)}, "news: .* isn't a list of at most"),
        ({"site": ROW, "near": [["Site3", 1.5, 0, 0]]}, "near: 1.5 isn't a whole number"),
        ({"site": ROW, "rumours": {"Site3": 1}}, "rumours: "),
    ],
)
def test_what_can_not_be_understood_is_told(fields: object, why: str) -> None:
    with pytest.raises(BadHeartbeat, match=why) as refused:
        decoded(json.dumps(fields).encode())
    assert refused.value.status == 400


@pytest.mark.parametrize("wire", [b"", b"\xff", b"{", b"[" * 100_000, b" " * (MOST_BYTES + 1), b'{"site": NaN}'])
def test_what_is_no_message_is_refused(wire: bytes) -> None:
    with pytest.raises(BadHeartbeat):
        decoded(wire)
