"""What Envoy's Lua decides by itself is what the agent would decide: for any request, at any front.

The Lua is the one that Envoy is given, run by LuaJIT; the agent's side is read, understand, plan, carry.
"""

from dataclasses import replace

import pytest
from carrying import FRONTS, Front, front, requests
from hypothesis import event, example, given, settings

from cheops.carry import carry, read_carried
from cheops.carry.read import split_token
from cheops.carry.request_id import encode
from cheops.intercept.envoy.fronts import _table
from cheops.model import Request
from cheops.plan import Forward, Plan
from envoy_lua import Chosen
from values import digits, request

Case = tuple[Front, Request]
ID = "x-openstack-request-id"


def sent(*headers: tuple[str, str], service: str = "compute", target: str = "/") -> Case:
    """A request at a front of OpenStack."""
    pairs = tuple((name.encode(), value.encode("latin1")) for name, value in headers)
    return front(1, service), Request(service=service, method="GET", target=target.encode(), headers=pairs)


@settings(deadline=None, max_examples=500)
@given(requests())
@example(sent(("baggage", "a=1"), ("baggage", "scope=%7Bcompute%3ASite2%7D")))  # two headers are one list
@example(sent(("baggage", "scope={compute:Site2} junk")))
@example(sent(("baggage", "scope;x=1")))
@example(sent((ID, f"req-{encode([(1, 2), (2, 1), (2, 2)], digits())}")))  # another service is bound twice
@example(sent((ID, "req-c4e01040-2000-8000-7000-000000000000")))  # no variant of RFC 9562, so not marked
@example(sent((ID, "req-c4e05040-2080-8100-8c01-c4e01040200c")))  # five bindings: no mark of ours
@example(sent(("x-scope", "{compute: Site2}"), ("x-auth-token", "t!{\xff}")))
@example(sent(("x-scope", "{compute: Site2}"), ("x-auth-token", "t!{}x!{compute: Site1}")))
@example(sent(("x-auth-token", "t!{identity: Site1 & Site2}"), service="identity"))
@example((front(0, "orders"), request("orders", "/~scope/%7Border%3ASite2%7D/orders/1", x_scope="{orders: Site2}")))
@example((front(2, "catalog"), request("catalog", x_scope='{"catalog": 1e5}')))  # in JSON a number, not a name
@example(sent(("x-scope", "{nova: Site2}"), ("baggage", "scope=%7Bcompute%3ASite1%7D, k=v")))
@example(sent(("x-scope", "{nova: Site2}"), ("baggage", "a=1"), ("baggage", "b=2")))
@example(sent(("x-scope", "{nova: Site2}"), ("x-auth-token", "t!{compute: Site1}"), service="identity"))
def test_lua_and_the_agent_agree(case: Case) -> None:
    at, request = case
    chosen, agent = at.script.choose(request), at.agent(request)
    event(f"{'agent' if chosen.to == 'agent' else 'Lua'} / {type(agent).__name__}")
    if chosen.to == "agent":
        check_it_is_as_it_was(at, request, chosen)
    else:
        assert isinstance(agent, Plan), f"Lua chose {chosen.to}, but the agent would have said: {agent}"
        assert isinstance(agent.step, Forward), "Lua can't choose among several"
        assert chosen.to == ("local" if agent.step.site == at.site.name else f"site/{agent.step.site}")
        check_it_goes_on(at, request, chosen, agent)


def check_it_is_as_it_was(at: Front, request: Request, chosen: Chosen) -> None:
    """The agent sees what the client wrote, and the routes don't go to a site after all."""
    assert chosen.request == request
    scope = b",".join(request.values(b"x-scope")).decode("latin1")
    assert chosen.path.startswith(b"/~scope/") or scope not in dict(_table(at.site, at.service))


def check_it_goes_on(at: Front, request: Request, chosen: Chosen, plan: Plan) -> None:
    """Only what carries a scope has changed, and it carries this one."""
    carried = read_carried(request, at.application)
    assert chosen.request.target == carried.request.target
    carriers = names_of_carriers(at)
    others = [[pair for pair in r.headers if pair[0] not in carriers] for r in (chosen.request, request)]
    assert others[0] == others[1]
    if is_stated(at, request):
        check_carried(at, request, chosen.request, plan)
    else:  # an id or a token carries it already
        assert sorted(chosen.request.headers) == sorted(carried.request.headers)


def is_stated(at: Front, request: Request) -> bool:
    """Whether the scope stands in X-Scope, the URL or baggage."""
    stated = tuple(pair for pair in request.headers if pair[0] in (b"x-scope", b"baggage"))
    return read_carried(replace(request, headers=stated), at.application).text is not None


def token_names(at: Front) -> list[bytes]:
    carrier = at.application.token_suffix
    return [name.lower().encode() for name in carrier.headers] if carrier else []


def tokens_of(at: Front, request: Request, name: bytes) -> list[bytes]:
    """What a service that validates tokens has to see."""
    carrier = at.application.token_suffix
    values = request.values(name)
    if not carrier or len(values) != 1:
        return values
    return [token for token, _ in [split_token(values[0], carrier) or (values[0], b"")]]


def names_of_carriers(at: Front) -> set[bytes]:
    carrier = at.application.request_id
    return {b"x-scope", b"baggage", *token_names(at), *((carrier.header.lower().encode(),) if carrier else ())}


def check_carried(at: Front, before: Request, after: Request, plan: Plan) -> None:
    """Each carrier alone says the scope, and a service that would not know its token with a scope gets it without."""
    token = at.application.token_suffix
    cut = token is not None and at.service in token.cut_at
    for name in names_of_carriers(at):
        values = after.values(name)
        if name in token_names(at):
            assert tokens_of(at, after, name) == tokens_of(at, before, name), name
        if name in token_names(at) and (cut or len(before.values(name)) != 1):
            assert not (token and len(values) == 1 and split_token(values[0], token)), name
        elif values or name != b"x-scope":
            if name == b"baggage" and not at.application.adds_baggage:
                continue
            assert len(values) == 1, name
            found = at.agent(replace(after, target=b"/", headers=((name, values[0]),)))
            assert isinstance(found, Plan), (name, found)
            assert found.forwards[0].resolved == plan.forwards[0].resolved, name


@settings(deadline=None, max_examples=150)
@given(requests())
@example(sent(("x-scope", "{compute: Site2}"), ("baggage", "scope;x=1")))
@example(sent(("x-scope", "{compute: Site2}"), (ID, f"no--{encode([(1, 2)], digits())}")))
@example(sent(("x-scope", "{compute: Site2}"), ("x-auth-token", "t!{}x")))
def test_what_the_agent_writes_is_read_back_as_the_same_scope(case: Case) -> None:
    at, request = case
    plan = at.agent(request)
    if isinstance(plan, Plan) and plan.forwards[0].resolved.site_of and is_stated(at, request):
        carried = read_carried(request, at.application)
        carrying = carry(carried.request, plan.forwards[0].resolved, at.application, at.view, digits())
        if carrying.keep_under:
            at.pipeline.kept.keep(carrying.keep_under, plan.forwards[0].resolved.text())
        check_carried(at, request, carrying.request, plan)


@pytest.mark.parametrize("at", FRONTS)
def test_a_request_without_a_scope_stays_as_it_is(at: tuple[int, str]) -> None:
    request = Request(service=at[1], method="GET", target=b"/x", headers=((b"accept", b"a"), (b"accept", b"b")))
    chosen = front(*at).script.choose(request)
    assert (chosen.to, chosen.request) == ("local", request)
