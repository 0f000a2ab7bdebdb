"""The stages in order, at one site, over the in-memory transport; what is sent where, and what is refused."""

import asyncio
import errno
import json
import os
from dataclasses import replace

import pytest

from cheops.applications import Application
from cheops.carry.request_id import Bindings, KeptBy, decode, encode, encode_kept
from cheops.errors import BadRequest, BadScope, CantKeep, CheopsError, NotYet, ScopeNoLongerKept, SiteUnreachable
from cheops.model import Reply, Request
from cheops.pipeline import Pipeline
from cheops.sites.memory import PeersInMemory
from cheops.stores.kept import KeptInMemory
from cheops.transports.memory import Handler, MemoryTransport, Network, Sent
from values import OPENSTACK, SHOP, at_once, chunks, digits, headers_of, reply, request, site_of, view_of, whole

SIX = "{compute: Site1, image: Site2, network: Site2, identity: Site1, placement: Site3, volume: Site2}"
NAMES = ("Site1", "Site2", "Site3")


class World:
    """Three sites, each with an agent; every service answers with the name of its site."""

    def __init__(self, described: Application = OPENSTACK) -> None:
        self.network, self.now = Network(), 0.0
        self.kept = {name: KeptInMemory(lambda: self.now) for name in NAMES}
        self.network.kept.update(self.kept)
        self.network.services.update({(site, name): answer(site) for site in NAMES for name in described.services})
        self.agents = {name: self._agent(described, name) for name in NAMES}

    def _agent(self, described: Application, name: str) -> Pipeline:
        return Pipeline(
            application=described,
            view=view_of(site_of(described, name)),
            transport=MemoryTransport(name, self.network),
            kept=self.kept[name],
            peers=PeersInMemory(),
            random=digits(),
        )

    def serve(self, request: Request, at: str = "Site1") -> Reply:
        return at_once(self.agents[at].serve(request))

    def refuses(self, request: Request, at: str = "Site1") -> CheopsError:
        """The error, once nothing was sent anywhere."""
        with pytest.raises(CheopsError) as caught:
            self.serve(request, at)
        assert self.network.sent == []
        return caught.value

    @property
    def last(self) -> Sent:
        return self.network.sent[-1]


def answer(site: str) -> Handler:
    async def handle(request: Request) -> Reply:
        return reply(200, site.encode(), headers=((b"x-site", site.encode()), (b"x-site", b"again")))

    return handle


def served_by(answered: Reply) -> str:
    return at_once(whole(answered.body)).decode()


@pytest.mark.parametrize(
    ("headers", "site"),
    [
        ([], "Site1"),
        ([("x-scope", "{nova: Site2}")], "Site2"),
        ([("x-scope", "Site3")], "Site3"),
        ([("x-scope", "{image: Site2}")], "Site1"),
        ([("baggage", "scope=%7Bcompute%3A%20Site2%7D")], "Site2"),
        ([("x-openstack-request-id", f"req-{encode([(2, 1), (1, 3)], digits())}")], "Site3"),
        ([("x-openstack-request-id", f"req-{encode([(2, 2)], digits())}")], "Site1"),
        ([("x-auth-token", "t!{compute: Site2}")], "Site2"),
    ],
)
def test_a_request_goes_to_the_site_that_its_scope_names(headers: list[tuple[str, str]], site: str) -> None:
    world = World()
    answered = world.serve(replace(request("compute"), headers=headers_of(headers)))
    assert (answered.status, served_by(answered)) == (200, site)
    assert [(sent.origin, sent.site) for sent in world.network.sent] == [("Site1", site)]


def test_it_arrives_as_it_was_but_for_the_scope() -> None:
    world = World(SHOP)
    body = chunks(b"a", b"b")
    world.serve(Request(service="orders", method="PATCH", target=b"/~scope/Site2/a%2f/?b", headers=(), body=body))
    sent = world.last.request
    assert (sent.method, sent.target, sent.body) == ("PATCH", b"/a%2f/?b", body)
    assert dict(sent.headers) == {b"x-scope": b"{orders: Site2}", b"x-request-id": encode([(2, 2)], digits()).encode()}


def test_the_reply_comes_back_as_it_was() -> None:
    answered = World().serve(request("compute", x_scope="{compute: Site2}"))
    assert answered.headers == ((b"x-site", b"Site2"), (b"x-site", b"again"), (b"cheops-served-by", b"Site2"))


def test_a_request_without_a_scope_gets_none() -> None:
    world, plain = World(), request("compute", x_auth_token="t", baggage="a=1")
    world.serve(plain)
    assert world.last.request == plain


def test_an_id_that_carries_the_scope_is_not_touched() -> None:
    world = World()
    marked = request("compute", x_openstack_request_id=f"req-{encode([(1, 2)], digits())}", baggage="a=1")
    world.serve(marked)
    assert world.last.request == marked


def test_a_scope_on_a_token_is_put_into_the_rest_too() -> None:
    world = World()
    world.serve(request("identity", x_auth_token="t!{keystone: Site2}"))
    sent = world.last.request
    assert (sent.values(b"x-auth-token"), sent.values(b"x-scope")) == ([b"t"], [b"{identity: Site2}"])
    (uuid,) = sent.values(b"x-openstack-request-id")
    assert decode(uuid.decode().removeprefix("req-")) == Bindings(numbers=((4, 2),))


def marked_by(sent: Sent) -> str:
    (value,) = sent.request.values(b"x-openstack-request-id")
    return value.decode()


def test_a_scope_too_long_for_an_id_is_kept_before_anything_is_sent() -> None:
    world = World()
    seen: list[str | None] = []

    async def look(request: Request) -> Reply:
        uuid = request.values(b"x-openstack-request-id")[0].decode().removeprefix("req-")
        seen.append(world.kept["Site1"].recall(uuid))
        return reply()

    world.network.services["Site1", "compute"] = look
    world.serve(request("compute", x_scope=SIX))
    assert decode(marked_by(world.last).removeprefix("req-")) == KeptBy(site=1)
    assert seen == [SIX]


def test_and_recalled_there_and_elsewhere() -> None:
    world = World()
    world.serve(request("compute", x_scope=SIX))
    following = request("volume", x_openstack_request_id=marked_by(world.last))
    assert served_by(world.serve(following)) == "Site2"
    assert served_by(world.serve(following, at="Site3")) == "Site2"
    world.network.cut("Site3", "Site1")
    assert served_by(world.serve(following, at="Site3")) == "Site2"  # who has asked once, knows
    assert world.last.request == following


def test_a_keeper_that_is_cut_off_is_told() -> None:
    world = World()
    world.network.cut("Site1", "Site2")
    error = world.refuses(request("image", x_openstack_request_id=f"req-{encode_kept(2, digits())}"))
    assert isinstance(error, SiteUnreachable)
    assert error.detail.startswith("the scope of this workflow is kept by Site2, which can't be asked")
    assert error.members == {"site": "Site2"}
    assert (error.status, error.retry) == (503, True)


class FullDisk:
    """Keeps nothing."""

    def keep(self, uuid: str, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def recall(self, uuid: str) -> str | None:
        return None


def test_a_scope_that_cannot_be_written_down_is_told() -> None:
    world = World()
    world.agents["Site1"] = replace(world.agents["Site1"], kept=FullDisk())
    error = world.refuses(request("compute", x_scope=SIX))
    assert isinstance(error, CantKeep)
    assert error.detail.endswith("too long for a request id: No space left on device")


def test_but_one_that_another_site_keeps_is_asked_for_again() -> None:
    world = World()
    world.agents["Site3"] = replace(world.agents["Site3"], kept=FullDisk())
    world.serve(request("compute", x_scope=SIX))
    following = request("volume", x_openstack_request_id=marked_by(world.last))
    assert [served_by(world.serve(following, at="Site3")) for _ in range(2)] == ["Site2", "Site2"]


@pytest.mark.parametrize(("number", "keeper"), [(1, "Site1"), (2, "Site2"), (700, "site number 700")])
def test_a_scope_that_nobody_keeps(number: int, keeper: str) -> None:
    error = World().refuses(request("image", x_openstack_request_id=f"req-{encode_kept(number, digits())}"))
    assert isinstance(error, ScopeNoLongerKept)
    assert error.detail == f"the scope of this workflow is kept by {keeper}, which doesn't know it (any more)"
    assert "Repeat the command" in error.hint


def test_a_scope_is_kept_for_a_day() -> None:
    world = World()
    world.serve(request("compute", x_scope=SIX))
    following = request("volume", x_openstack_request_id=marked_by(world.last))
    world.network.sent.clear()
    world.now = 24 * 3600
    assert isinstance(world.refuses(following), ScopeNoLongerKept)


@pytest.mark.parametrize(
    ("text", "detail", "hint", "members"),
    [
        ("{compute: Site9}", "column 11: unknown site 'Site9'", "near names are Site1, Site2, Site3", (10, 11)),
        ("{compte: Site1}", "column 2: unknown service 'compte'", "did you mean compute?", (1, 2)),
        ("{compute: Site1", "column 16: `,` or `}` is expected here, not the end", "join sites", (15, 16)),
        (
            "{nova: Site1, compute: Site2}",
            "column 15: 'compute' is the service 'compute', which is bound",
            "",
            (14, 15),
        ),
        ("", "column 1: the scope is empty", "write {} for everything local", (0, 1)),
    ],
)
def test_a_bad_scope_is_told_with_its_place(text: str, detail: str, hint: str, members: tuple[int, int]) -> None:
    error = World().refuses(request("compute", x_scope=text))
    assert isinstance(error, BadScope)
    assert error.detail.startswith(detail)
    assert error.hint.startswith(hint)
    assert (error.members["scope"], error.members["position"], error.members["column"]) == (text, *members)
    assert "^" in error.members["caret"] or not text
    assert json.loads(error.body())["type"] == "urn:cheops:bad-scope"


def test_operators_are_refused_and_nothing_is_sent() -> None:
    assert isinstance(World().refuses(request("image", x_scope="{image: Site1 & Site2 ; Site3}")), NotYet)


@pytest.mark.parametrize(
    ("numbers", "detail"),
    [
        ([(61, 1)], "the request id carries service number 61, which Site1 doesn't know"),
        ([(1, 1), (2, 77)], "the request id carries site number 77, which Site1 doesn't know"),
        ([(1, 1), (1, 2)], "the request id binds a service twice"),
        ([(2, 1), (2, 1)], "the request id binds a service twice"),
    ],
)
def test_an_id_that_cannot_be_true_is_told(numbers: list[tuple[int, int]], detail: str) -> None:
    error = World().refuses(request("compute", x_openstack_request_id=f"req-{encode(numbers, digits())}"))
    assert isinstance(error, BadRequest)
    assert error.detail == detail
    assert error.hint


def test_a_cut_site_is_answered_as_envoy_answers() -> None:
    world = World()
    world.network.cut("Site1", "Site2")
    answered = world.serve(request("compute", x_scope="{compute: Site2}"))
    problem = json.loads(served_by(answered))
    assert (answered.status, problem["code"], problem["site"]) == (503, "unreachable", "Site2")
    assert problem["detail"] == "The site Site2 can't be reached from Site1."
    world.network.heal("Site2", "Site1")
    assert world.serve(request("compute", x_scope="{compute: Site2}")).status == 200


def test_so_is_a_service_that_the_site_does_not_run() -> None:
    world = World()
    del world.network.services["Site2", "compute"]
    answered = world.serve(request("compute", x_scope="{compute: Site2}"))
    assert (answered.status, json.loads(served_by(answered))["code"]) == (404, "no-such-service")


def test_a_link_that_is_cut_in_the_middle() -> None:
    world = World()
    answered = world.serve(request("compute", x_scope="{compute: Site2}"))
    world.network.cut("Site1", "Site2")
    with pytest.raises(SiteUnreachable, match="Site2 broke off in the middle of its reply"):
        at_once(whole(answered.body))

    async def cut(request: Request) -> Reply:
        world.network.cut("Site1", "Site2")
        return reply()

    world.network.heal("Site1", "Site2")
    world.network.services["Site2", "compute"] = cut
    broken = world.serve(request("compute", x_scope="{compute: Site2}"))
    assert (broken.status, json.loads(served_by(broken))["code"]) == (503, "broken-off")


def test_workflows_at_once_do_not_mix() -> None:
    world = World()

    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0)
        return reply(200, b"".join(request.values(b"x-scope")))

    world.network.services |= dict.fromkeys(world.network.services, slow)
    scopes = [f"{{compute: {one}, image: {two}}}" for one in NAMES for two in NAMES]

    async def all_at_once() -> list[Reply]:
        agent = world.agents["Site1"]
        return await asyncio.gather(*(agent.serve(request("compute", x_scope=text)) for text in scopes))

    assert [served_by(answered) for answered in asyncio.run(all_at_once())] == scopes
    assert [sent.site for sent in world.network.sent] == [site for site in NAMES for _ in NAMES]


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
def test_an_upgrade_needs_a_scope_of_one_site(protocol: str) -> None:
    error = World().refuses(request("image", x_scope="{image: (Site2)}", connection="upgrade", upgrade=protocol))
    assert (error.status, error.hint) == (501, "Write it as {service: Site}.")


def test_a_mistake_in_the_scope_of_an_upgrade_is_told_first() -> None:
    error = World().refuses(request("image", x_scope="{image: Site9}", upgrade="websocket"))
    assert isinstance(error, BadScope)
