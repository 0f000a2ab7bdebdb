"""Laws of membership: rolls converge whatever the order, and a peer's state follows its evidence."""

import json
from contextlib import suppress
from functools import reduce

from bench.simulated import Deployment, member, seed
from hypothesis import given, settings
from hypothesis import strategies as st

from cheops.errors import BadHeartbeat
from cheops.model import PeerState
from cheops.sites.liveness import LONGEST_TRIAL, PATIENCE, Liveness
from cheops.sites.message import Message, Near, Rumour, decoded
from cheops.sites.roll import Member, Roll, Standing, later

unhurried = settings(deadline=None)
names = st.sampled_from(["Site1", "Site2", "Site3", "Site4"])
records = st.builds(
    Member,
    name=names,
    number=st.integers(1, 4),
    mesh=st.sampled_from(["10.0.0.1:1", "10.0.0.2:1"]),
    generation=st.integers(0, 3),
    revision=st.integers(0, 2),
    standing=st.sampled_from(Standing),
    managed=st.lists(st.sampled_from(["catalog", "orders", "orders%", "é"]), max_size=3, unique=True).map(tuple),
)
of_one_site = records.map(lambda record: Member(**{**_fields(record), "name": "Site1"}))


def _fields(record: Member) -> dict[str, object]:
    return {name: getattr(record, name) for name in Member.__dataclass_fields__}


@given(of_one_site, of_one_site, of_one_site)
def test_the_later_record_is_a_join(a: Member, b: Member, c: Member) -> None:
    assert later(a, b) == later(b, a)
    assert later(a, later(b, c)) == later(later(a, b), c)
    assert later(a, a) == a


@given(st.lists(records), st.lists(records), st.lists(records))
def test_merging_is_a_join(a: list[Member], b: list[Member], c: list[Member]) -> None:
    one, two, three = Roll.of(*a), Roll.of(*b), Roll.of(*c)
    assert one.merged(*two.values()) == two.merged(*one.values())
    assert one.merged(*two.merged(*three.values()).values()) == one.merged(*two.values()).merged(*three.values())
    assert one.merged(*one.values()) is one


@given(st.lists(records, max_size=12), st.data())
def test_any_order_and_any_repetition_gives_the_same_roll(heard: list[Member], data: st.DataObject) -> None:
    again = data.draw(st.permutations(heard + data.draw(st.lists(st.sampled_from(heard or [member(1)])))))
    extra = [record for record in again if record in heard]
    roll, other = Roll.of(*heard), reduce(lambda roll, record: roll.merged(record), extra, Roll())
    assert roll == other
    assert roll.digest == other.digest


@given(st.lists(records, max_size=8), st.lists(records, max_size=8))
def test_digests_are_equal_just_for_equal_rolls(a: list[Member], b: list[Member]) -> None:
    one, two = Roll.of(*a), Roll.of(*b)
    assert (one.digest == two.digest) == (set(one.told) == set(two.told))


@given(st.lists(records))
def test_no_number_is_used_twice_and_none_gets_lost(heard: list[Member]) -> None:
    roll = Roll.of(*heard)
    numbers = [one.number for one in roll.usable.values()]
    assert len(numbers) == len(set(numbers))
    assert set(numbers) == {one.number for one in roll.members.values()}


pairs = st.sampled_from([(a, b) for a in range(1, 5) for b in range(1, 5) if a != b])
steps = st.one_of(
    st.tuples(st.just("cut"), pairs),
    st.tuples(st.just("heal"), pairs),
    st.tuples(st.just("join"), pairs),
    st.tuples(st.just("remove"), pairs),
    st.tuples(st.just("restart"), pairs),
    st.tuples(st.just("wait"), pairs),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(steps, max_size=12), st.integers(0, 1000))
def test_whatever_happened_all_agree_once_the_links_are_whole(
    happened: list[tuple[str, tuple[int, int]]], chance: int
) -> None:
    """Real hearts, messages lost in part; whatever was cut, joined, removed or wiped."""
    deployment = Deployment(seed=chance)
    deployment.links.loss = 0.05
    for number in (1, 2, 3):
        deployment.start(member(number), Roll.of(*(seed(member(n)) for n in (1, 2, 3) if n != number)))
    deployment.run(2)
    for what, (a, b) in happened:
        _do(deployment, what, a, b)
        deployment.run(1.5)
    deployment.links.silent.clear()
    deployment.links.loss = 0.0
    deployment.run(LONGEST_TRIAL + 15)
    present = [node.heart for node in deployment.nodes.values() if not _has_departed(deployment, node.heart.me.name)]
    assert len({heart.roll.digest for heart in present}) <= 1
    for heart in present:
        views = heart.peers(deployment.now)
        assert set(views) == {other.me.name for other in present} - {heart.me.name}
        assert all(view.state is PeerState.UP for view in views.values())


def _do(deployment: Deployment, what: str, a: int, b: int) -> None:
    one, other = f"Site{a}", f"Site{b}"
    known = one in deployment.nodes
    if what == "cut":
        deployment.links.silent |= {(one, other)}
    elif what == "heal":
        deployment.links.silent -= {(one, other)}
    elif what == "join" and not known:
        deployment.start(member(a), Roll.of(seed(member(1 if a != 1 else 2))))
    elif what == "remove":  # at Site1 alone: of two that remove each other neither is heard any more
        held = deployment.nodes["Site1"].heart.roll.members.get(other)
        if held and b != 1 and not held.is_seed:
            deployment.nodes["Site1"].heart.remove(other, deployment.now)
    elif what == "restart" and known:
        deployment.start(member(a), Roll.of(*(seed(member(n)) for n in (1, 2, 3) if n != a)), incarnation="2")


def _has_departed(deployment: Deployment, name: str) -> bool:
    return any(node.heart.roll[name].departed for node in deployment.nodes.values() if name in node.heart.roll)


evidence = st.lists(st.tuples(st.booleans(), st.floats(0.01, 3.0)), max_size=60)


@given(evidence, st.booleans())
def test_a_state_follows_the_evidence(probes: list[tuple[bool, float]], rumour: bool) -> None:
    """Up only after an answer; worse only after losses without an answer between them; the trial is bounded."""
    peer, now = Liveness(since=0.0), 0.0
    in_a_row = 0
    for answered, pause in probes:
        now += pause + PATIENCE
        before, sent = peer, now - PATIENCE
        peer = peer.on_answer(sent, now) if answered else peer.on_loss(sent, now, rumour=rumour)
        in_a_row = 0 if answered else in_a_row + 1
        if peer.state is not before.state:
            assert peer.since == now
            assert (peer.state is PeerState.UP) == answered
            assert answered or in_a_row >= (2 if rumour else 3)
        assert peer.settles_in(now) <= LONGEST_TRIAL
    for second in range(int(LONGEST_TRIAL) + 2):
        peer = peer.on_answer(now + second, now + second)
    assert peer.state is PeerState.UP


wire_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)
wire_records = st.builds(
    Member,
    name=wire_names,
    number=st.integers(1, 1023),
    mesh=st.sampled_from(["10.0.0.1:7443", "[::1]:7443", "host.example:1"]),
    generation=st.integers(0, 1 << 40),
    revision=st.integers(0, 1 << 20),
    standing=st.sampled_from(Standing),
)
tenths = st.integers(0, 1000).map(lambda n: n / 10)
whole = st.integers(0, 1 << 40)
messages = st.builds(
    Message,
    sender=wire_records,
    incarnation=st.text(max_size=40),
    version=st.text(max_size=20),
    sequence=whole,
    digest=st.from_regex(r"[0-9a-f]{0,16}", fullmatch=True),
    sent_at=st.integers(0, 1 << 40).map(lambda n: n / 1000),
    held=tenths,
    unanswered=st.none() | tenths,
    want_roll=st.booleans(),
    news=st.lists(wire_records, max_size=3).map(tuple),
    roll=st.none() | st.lists(wire_records, max_size=3).map(tuple),
    rumours=st.lists(st.builds(Rumour, site=wire_names, dead=st.booleans(), age=tenths), max_size=3).map(tuple),
    near=st.none()
    | st.lists(st.builds(Near, site=wire_names, us=whole, spread_us=whole, age=whole), max_size=3).map(tuple),
)


@unhurried
@given(messages)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decoded(message.encoded()) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=4),
)
FIELDS = ["site", "sent", "held", "news", "roll", "near", "rumours", "digest", "sequence", "unanswered", "want_roll"]


@unhurried
@given(st.dictionaries(st.sampled_from(FIELDS), json_values) | json_values | st.binary())
def test_no_text_does_more_than_be_refused(value: object) -> None:
    wire = value if isinstance(value, bytes) else json.dumps(value).encode()
    with suppress(BadHeartbeat):
        assert isinstance(decoded(wire), Message)
