"""Sharing at real Envoys: the scope is found however it is written, and follows the workflow however that goes on."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from cheops.lab.lab import Lab
from cheops.lab.site import LabSite
from end_to_end.asking import wait_for
from end_to_end.raw import (
    CARRIERS,
    Told,
    access,
    agent_says,
    call,
    changed,
    mark,
    problem,
    raw_app,
    reached,
    reply,
    told,
)
from end_to_end.wire import Answer

WAYS = {"here": "Site1", "mesh": "Site2", "agent-here": "(Site1)", "agent-and-mesh": "(Site2)"}  # (…): not Lua's
FAR = {"mesh": "Site2", "agent-and-mesh": "(Site2)"}


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app", "a", "b", "c"), sites=3)


@pytest.fixture(scope="module")
def plain_lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The scope in headers and request ids alone: there Envoy knows the plainest scopes without Lua."""
    return lab_of(raw_app(tmp_path_factory.mktemp("plain") / "app", "a", carriers=("header", "request-id")))


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The site of `things`, so written that the request goes one of its ways."""
    return str(request.param)


@pytest.fixture(params=FAR.values(), ids=FAR)
def far(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def scoped(text: str) -> str:
    return f"X-Scope: {text}"


def url_of(text: str) -> bytes:
    """The prefix of URLs that carry a scope."""
    return b"/~scope/" + quote(text, safe="").encode()


def name_of(way: str) -> str:
    return way.strip("()")


def asked(site: LabSite, service: str, *headers: str) -> Told:
    """What reaches a service that is asked at its front."""
    return told(call(site.front(service), b"/echo", *headers))


def inner_call(lab: Lab, at: str, service: str, *headers: str) -> Answer:
    """What the things of a site get when they call another service at its front, with these headers."""
    target = f"/call?{lab.site(at).front(service)}/echo".encode()
    return call(lab.site(at).backend("things"), target, *(f"X-Call: {header}" for header in headers))


def where(lab: Lab, at: str, service: str, *headers: str) -> list[str]:
    """The services that an inner call reaches."""
    marked = mark()
    told(inner_call(lab, at, service, *headers, marked))
    return reached(lab, marked)


# The scope follows the workflow


@pytest.mark.parametrize("carrier", CARRIERS[:4])
def test_each_carrier_alone_takes_the_scope_along(lab: Lab, far: str, carrier: str) -> None:
    """The client is at Site1 and things at Site2: what reached them decides where their own calls go."""
    seen = asked(lab.site("Site1"), "things", scoped(f"{{things: {far}, a: Site3}}"), "X-Auth-Token: TOKEN")
    (passed_on,) = seen.lines(carrier)
    assert where(lab, "Site2", "a", passed_on) == ["Site3/things"]
    assert where(lab, "Site2", "b", passed_on) == ["Site2/things"]  # not named: local where the call is made
    assert where(lab, "Site3", "b", passed_on) == ["Site3/things"]
    assert where(lab, "Site2", "a") == ["Site2/things"]


def test_the_raw_service_itself_calls_on(lab: Lab) -> None:
    """One request, and the whole way: client, things of Site2, a of Site3."""
    marked, scope = mark(), "{things: Site2, a: Site3}"
    target = f"/call?{lab.site('Site2').front('a')}/echo".encode()
    calls = (f"X-Call: {scoped(scope)}", f"X-Call: {marked}")
    answer = call(lab.site("Site1").front("things"), target, scoped(scope), marked, *calls)
    assert told(answer).values("x-scope") == [scope]
    assert reached(lab, marked) == ["Site2/things", "Site3/things"]


@pytest.mark.parametrize("text", ["Site2", "{Site2}", "(Site2)"])
def test_a_bare_site_is_the_one_of_the_service_first_asked_and_of_no_other(lab: Lab, text: str) -> None:
    seen = asked(lab.site("Site1"), "things", scoped(text))
    for line in seen.lines(*CARRIERS):
        assert where(lab, "Site3", "a", line) == ["Site3/things"]
        assert where(lab, "Site3", "things", line) == ["Site2/things"]


def test_baggage_is_added_to_the_client_s_own(lab: Lab, way: str) -> None:
    own = "userId=alice;secret=0, region=%7Beu%7D"
    seen = asked(lab.site("Site1"), "things", scoped(f"{{things: {way}}}"), f"baggage: {own}", "baggage: k=v")
    members = [member.strip() for member in ",".join(seen.values("baggage")).split(",")]
    assert members[:3] == ["userId=alice;secret=0", "region=%7Beu%7D", "k=v"]
    assert members[3:] == [f"scope=%7Bthings%3A%20{name_of(way)}%7D"]


def test_baggage_that_carries_another_scope_carries_this_one(lab: Lab, way: str) -> None:
    headers = (scoped(f"{{things: {way}}}"), "baggage: a=1,scope=%7Bthings%3ASite3%7D,b=2")
    (baggage,) = asked(lab.site("Site1"), "things", *headers).values("baggage")
    assert baggage.replace(" ", "") == f"a=1,b=2,scope=%7Bthings%3A%20{name_of(way)}%7D"


def test_the_scope_may_come_in_baggage(lab: Lab, way: str) -> None:
    marked, value = mark(), quote(f"{{things: {way}}}", safe="")
    answer = call(lab.site("Site1").front("things"), b"/echo", f"baggage: k=v, scope = {value};p=1", marked)
    (baggage,) = told(answer).values("baggage")
    assert baggage.split(",") == ["k=v", f"scope=%7Bthings%3A%20{name_of(way)}%7D"]
    assert reached(lab, marked) == [f"{name_of(way)}/things"]


@pytest.mark.parametrize("kind", ["lab", "plain_lab"])
def test_a_client_s_request_id_is_replaced_unless_it_carries_this_scope(
    request: pytest.FixtureRequest, kind: str, way: str
) -> None:
    """One workflow keeps one id, by which people find it in the logs of all sites."""
    lab: Lab = request.getfixturevalue(kind)
    scope, other = f"{{things: {way}, a: Site2}}", "{things: Site1, a: Site1}"
    (own,) = asked(lab.site("Site1"), "things", scoped(scope), "X-Request-ID: req-mine").lines("x-request-id")
    assert own.startswith("x-request-id: req-c4e02")
    assert asked(lab.site("Site1"), "things", scoped(scope), own).lines("x-request-id") == [own]
    (changed,) = asked(lab.site("Site1"), "things", scoped(other), own).lines("x-request-id")
    assert changed != own


def test_one_id_is_kept_where_envoy_needs_no_lua_too(plain_lab: Lab) -> None:
    scope = scoped("{things: Site2}")
    (own,) = asked(plain_lab.site("Site1"), "things", scope).lines("x-request-id")
    assert asked(plain_lab.site("Site1"), "things", scope, own).lines("x-request-id") == [own]
    assert asked(plain_lab.site("Site1"), "things", scope, "X-Request-ID: mine").lines("x-request-id") != [own]
    (other,) = asked(plain_lab.site("Site1"), "things", scoped("{things: Site1}"), own).lines("x-request-id")
    assert other != own
    assert where(plain_lab, "Site2", "things", other) == ["Site1/things"]


def test_an_id_goes_on_unchanged_through_an_inner_call(lab: Lab, far: str) -> None:
    (passed_on,) = asked(lab.site("Site1"), "things", scoped(f"{{things: {far}, a: Site3}}")).lines("x-request-id")
    assert told(inner_call(lab, "Site2", "a", passed_on)).lines("x-request-id") == [passed_on]


@pytest.mark.parametrize("header", ["X-Auth-Token", "X-Subject-Token"])
def test_a_token_carries_the_scope_and_is_itself_where_it_is_validated(lab: Lab, way: str, header: str) -> None:
    scope = f"{{things: {way}, identity: Site3}}"
    (token,) = asked(lab.site("Site1"), "things", scoped(scope), f"{header}: TO!KEN").values(header.lower())
    assert token == f"TO!KEN!{{things: {name_of(way)}, identity: Site3}}"
    marked = mark()
    seen = told(inner_call(lab, name_of(way), "identity", f"{header}: {token}", marked))
    assert seen.values(header.lower()) == ["TO!KEN"]
    assert reached(lab, marked) == ["Site3/identity"]


def test_both_tokens_of_a_validation_are_themselves(lab: Lab) -> None:
    """As keystonemiddleware validates: its own token, and the user's as the subject."""
    scope = scoped("{things: Site2}")
    for headers in (
        ["X-Auth-Token: SERVICE", "X-Subject-Token: USER!{things: Site2}"],
        [scope, "X-Subject-Token: USER"],
    ):
        seen = asked(lab.site("Site2"), "identity", *headers)
        assert seen.values("x-subject-token") == ["USER"]
        assert seen.values("x-auth-token") in ([], ["SERVICE"])


def test_fifty_workflows_at_once_never_mix(lab: Lab) -> None:
    """Half of them go one way and half the other; each knows only its own request id."""

    def workflow(number: int) -> tuple[str, str]:
        one, two = ("Site2", "Site3") if number % 2 else ("Site3", "Site2")
        answer = call(lab.site("Site1").front("things"), b"/echo", scoped(f"{{things: {one}, a: {two}}}"))
        inner = [
            inner_call(lab, one, "a", *told(answer).lines("x-request-id")).values("cheops-served-by") for _ in range(4)
        ]
        return f"{one} {two}", f"{answer.values('cheops-served-by')[0]} {' '.join({site for (site,) in inner})}"

    with ThreadPoolExecutor(50) as pool:
        for wanted, found in pool.map(workflow, range(200)):
            assert found == wanted


# More than an id can carry: the agent keeps the scope

LONG = "{things: Site2, identity: Site3, a: Site3, b: Site1, c: Site2}"


def kept_id(lab: Lab) -> str:
    """The id of a workflow whose scope the agent of Site1 keeps."""
    (line,) = asked(lab.site("Site1"), "things", scoped(LONG)).lines("x-request-id")
    assert line.startswith("x-request-id: req-c4e0f001")
    return line


def recalls(lab: Lab, site: str, line: str) -> list[dict[str, Any]]:
    """How often the agent of a site has sent for the scope kept under an id."""
    return [entry for entry in access(lab, line.removeprefix("x-request-id: req-")) if entry["site"] == site]


def test_a_scope_too_long_for_an_id_is_asked_of_its_keeper_once(lab: Lab) -> None:
    line = kept_id(lab)
    for service, site in {"a": "Site3", "b": "Site1", "c": "Site2", "identity": "Site3"}.items():
        process = "identity" if service == "identity" else "things"
        assert where(lab, "Site2", service, line) == [f"{site}/{process}"]
    assert [entry["to"] for entry in recalls(lab, "Site2", line)] == ["site/Site1"]
    assert [(entry["listener"], entry["peer"]) for entry in recalls(lab, "Site1", line)] == [
        ("mesh", "spiffe://cheops/site/Site2")
    ]


def test_a_kept_scope_outlives_the_agent(lab: Lab) -> None:
    line = kept_id(lab)
    lab.kill("Site1", "agent")
    refused = problem(inner_call(lab, "Site2", "a", line), 503)
    assert "Site1" in refused["detail"]
    assert refused["site"] == "Site1"
    lab.restart("Site1", "agent")
    wait_for(lambda: inner_call(lab, "Site2", "a", line).status == 200, "the agent of Site1 answers")
    assert where(lab, "Site2", "a", line) == ["Site3/things"]


def test_a_keeper_that_is_cut_off_is_named(lab: Lab) -> None:
    known, line = kept_id(lab), kept_id(lab)
    assert where(lab, "Site2", "a", known) == ["Site3/things"]
    lab.cut("Site2", "Site1")
    try:
        began = time.monotonic()
        refused = problem(inner_call(lab, "Site2", "a", line), 503)
        assert time.monotonic() - began < 2
        assert "kept by Site1" in refused["detail"]
        assert refused["site"] == "Site1"
        assert where(lab, "Site2", "a", known) == ["Site3/things"]  # what it has been told it knows
    finally:
        lab.heal("Site2", "Site1")
    wait_for(lambda: inner_call(lab, "Site2", "a", line).status == 200, "the keeper is reached again")


def test_a_scope_that_nobody_keeps_any_more_is_told(lab: Lab) -> None:
    line = kept_id(lab)
    (lab.site("Site1").data / "kept" / line.removeprefix("x-request-id: req-")).unlink()
    marked = mark()
    refused = problem(inner_call(lab, "Site2", "a", line, marked), 409)
    assert "Site1" in refused["detail"]
    assert reached(lab, marked) == []


# How a scope is written


@pytest.mark.parametrize(
    "text",
    [
        "{things: Site2}",
        '{"things": "Site2"}',
        '{ "Things" : "Site2", "a": "Site3" }',
        "{STUFF: Site2}",
        "{sTuFf:Site2,}",
        "{'stuff': 'Site2'}",
        '{"stuff": Site2}',
        "Site2",
        " \tSite2",
        "{Site2}",
        "(((Site2)))",
        "{keystone: Site1, Stuff: Site2, A: Site1}",
        "{things: Site2, prime: Site1}",
        "{things: Site2," + " " * 2000 + "a: Site1}",
    ],
)
def test_a_scope_may_be_written_in_many_ways(lab: Lab, text: str) -> None:
    marked = mark()
    for number, send in enumerate(
        [
            lambda: call(lab.site("Site1").front("things"), b"/echo", scoped(text), marked),
            lambda: call(lab.site("Site1").front("things"), url_of(text) + b"/echo", marked),
            lambda: call(lab.site("Site1").front("things"), b"/echo", f"baggage: scope={quote(text)}", marked),
        ],
        start=1,
    ):
        assert send().values("cheops-served-by") == ["Site2"]
        assert reached(lab, marked) == ["Site2/things"] * number


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{things: Site1 & (Site2 ; Site3)}", "replication"),
        ("{things: Site1 % Site2 ; Site3}", "parts"),
        ("Site1 % Site2 ; Site3", "parts"),
        ("{things: Site1, a: Site2 % Site3 ; Site1}", "parts"),  # also for a service that isn't asked yet
    ],
)
def test_what_isn_t_carried_out_yet_is_refused_and_reaches_nobody(lab: Lab, text: str, what: str) -> None:
    marked = mark()
    front = lab.site("Site1").front("things")
    for answer in (
        call(front, b"/echo", scoped(text), marked),
        call(front, url_of(text) + b"/echo", marked),
        call(front, b"/echo", f"baggage: scope={quote(text, safe='')}", marked, method="POST", body=b"x" * 100_000),
    ):
        refused = problem(answer, 501)
        assert what in refused["detail"]
        assert "nothing was sent" in refused["detail"]
        assert not answer.values("cheops-served-by")
    assert reached(lab, marked) == []


@pytest.mark.parametrize(
    ("text", "column", "near"),
    [
        ("{things: Site4}", 10, "Site1, Site2, Site3"),
        ("{things: site2}", 10, "did you mean Site2?"),
        ("{things: Site1, thinks: Site2}", 17, "did you mean things?"),
        ("{a: Site1 & Site22}", 13, "Site2"),
        ("Site22", 1, "Site2"),
        ("{things: Site1", 15, "`&`"),
        ("{things: Site1, stuff: Site2}", 17, "once"),
        ("", 1, "{}"),
    ],
)
def test_a_mistake_is_shown_with_its_column_and_reaches_nobody(lab: Lab, text: str, column: int, near: str) -> None:
    marked, front = mark(), lab.site("Site1").front("things")
    answers = [call(front, b"/echo", scoped(text), marked)]
    answers += [call(front, url_of(text) + b"/echo", marked)] if text else []
    for answer in answers:
        refused = problem(answer, 400)
        assert refused["column"] == column
        assert f"column {column}" in refused["detail"]
        assert near in refused["hint"]
        caret = refused["caret"].splitlines()
        assert not text or caret[1].index("^") == column - 1
    assert reached(lab, marked) == []


@pytest.mark.parametrize(
    ("target", "headers", "why"),
    [
        (b"/echo", ["X-Scope: {things: Site2}", "X-Scope: {things: Site2}"], "twice"),
        (b"/echo", ["X-Scope: {things: Site2}", "X-Scope: {a: Site3}"], "twice"),
        (b"/echo", ["baggage: scope=Site2", "baggage: scope=Site2"], "twice"),
        (b"/~scope/Site2/echo", ["X-Scope: {things: Site2}"], "twice"),
        (b"/~scope/%zz/echo", [], "percent"),
        (b"/~scope/Site1%Site2/echo", [], "percent"),
        (b"/~scope/%7Bthings%3ASite2%7/echo", [], "percent"),
        (b"/~scope/Site2%/echo", [], "percent"),
        (b"/~scope/%ff%fe/echo", [], "UTF-8"),
        (b"/~scope//echo", [], "/~scope/SCOPE/"),
        (b"/~scope/Site2", [], "/~scope/SCOPE/"),
        (b"/~scope/Site2?/echo", [], "/~scope/SCOPE/"),
        (b"/~scope/", [], "/~scope/SCOPE/"),
    ],
)
def test_what_isn_t_clear_is_refused_and_reaches_nobody(lab: Lab, target: bytes, headers: list[str], why: str) -> None:
    marked = mark()
    refused = problem(call(lab.site("Site1").front("things"), target, *headers, marked), 400)
    assert why in refused["detail"]
    assert reached(lab, marked) == []


def test_an_id_with_a_number_that_nobody_has_is_refused(lab: Lab) -> None:
    marked = mark()
    for digits in ("c4e01fff", "c4e013ff"):
        line = f"X-Request-ID: req-{digits}-2000-8000-8000-000000000000"
        refused = problem(call(lab.site("Site2").front("things"), b"/echo", line, marked), 400)
        assert "Site2" in refused["detail"]
        assert "number" in refused["detail"]
    assert reached(lab, marked) == []


# The scope in the URL

PATHS = [
    b"/echo",
    b"/echo/%2F/%2E%2E/%25/%28%29?a=b&c=%20+",
    b"/echo//a//b/../c/./d",
    b"/echo/~scope/Site3/x",
    b"/echo/'!*~@:$&=[]|;,",
    b"//echo",
    b"/echo?a?b=/../%2e%2e/~scope/Site3/",
    b"/~scope/Site3/echo",
]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_the_path_after_the_scope_is_left_byte_for_byte(lab: Lab, way: str, path: bytes) -> None:
    marked = mark()
    seen = told(call(lab.site("Site1").front("things"), url_of(f"{{things: {way}}}") + path, marked))
    assert seen.target.encode() == path
    assert seen.values("x-scope") == [f"{{things: {name_of(way)}}}"]
    assert reached(lab, marked) == [f"{name_of(way)}/things"]


HOST = "things.example:8700"


def location(lab: Lab, way: str, given: str, *, by_url: bool) -> str:
    """The Location that the client sees, of a service that answers with `given`."""
    target, scope = reply("201 Created", f"Location: {given}"), f"{{things: {way}}}"
    front = lab.site("Site1").front("things")
    if by_url:
        answer = call(front, url_of(scope) + target, host=HOST)
    else:
        answer = call(front, target, *([scoped(scope)] if way else []), host=HOST)
    assert answer.status == 201
    (value,) = answer.values("location")
    return value


@pytest.mark.parametrize("by_url", [False, True], ids=["X-Scope", "URL"])
@pytest.mark.parametrize("rest", ["/v1/things/1?x=%2F#f", "", "/"])
def test_a_location_that_names_the_service_s_own_address_leads_back_here(
    lab: Lab, way: str, rest: str, by_url: bool
) -> None:
    prefix = url_of(f"{{things: {way}}}").decode() if by_url else ""
    served_at = lab.site(name_of(way))
    for own in (served_at.backend("things"), served_at.front("things"), f"http://{HOST}"):
        assert location(lab, way, own + rest, by_url=by_url) == f"http://{HOST}{prefix}{rest}"


@pytest.mark.parametrize("by_url", [False, True], ids=["X-Scope", "URL"])
def test_a_location_on_the_same_host_keeps_the_scope_of_the_url(lab: Lab, way: str, by_url: bool) -> None:
    prefix = url_of(f"{{things: {way}}}").decode() if by_url else ""
    for path in ("/v1/things/1?x=/", "/"):
        assert location(lab, way, path, by_url=by_url) == prefix + path
    for relative in ("things/1", "?page=2", "../2"):
        assert location(lab, way, relative, by_url=by_url) == relative
    if by_url:
        assert location(lab, way, f"{prefix}/v1", by_url=True) == f"{prefix}/v1"  # of a service that knew it already


@pytest.mark.parametrize("by_url", [False, True], ids=["X-Scope", "URL"])
def test_a_location_elsewhere_is_none_of_our_business(lab: Lab, way: str, by_url: bool) -> None:
    backend = lab.site(name_of(way)).backend("things")
    identity = lab.site(name_of(way)).backend("identity")
    for elsewhere in (
        "http://example.org/v1/things/1",
        "https://example.org",
        "//example.org/x",
        "urn:thing:1",
        f"http://example.org/?next={backend}/x",
        f"{backend}0/x",
        f"http://user@{backend.removeprefix('http://')}.example.org/",
        identity + "/x",
    ):
        assert location(lab, way, elsewhere, by_url=by_url) == elsewhere


def test_a_location_without_a_scope_leads_back_here(lab: Lab) -> None:
    assert location(lab, "", lab.site("Site1").backend("things") + "/x", by_url=False) == f"http://{HOST}/x"
    assert location(lab, "", "/x", by_url=False) == "/x"
    assert location(lab, "", "http://example.org/x", by_url=False) == "http://example.org/x"


# Every way takes what the others take


def test_many_and_long_headers_pass_whatever_is_added_to_them(lab: Lab, way: str) -> None:
    """A front takes 100 headers and 60 KB; what it adds for the way must not be the last straw."""
    front, scope = lab.site("Site1").front("things"), scoped(f"{{things: {way}}}")
    many = [f"X-H{number}: {number}" for number in range(90)]
    seen = told(call(front, b"/echo", scope, *many))
    assert [f"X-H{number}: {value}" for number, (value,) in enumerate(map(seen.values, names_of(many)))] == many
    assert told(call(front, b"/echo", scope, f"X-Long: {'x' * 61_000}")).values("x-long") == ["x" * 61_000]
    answer = call(front, reply("200 OK", *many), scope)
    assert (answer.status, [answer.values(name) for name in names_of(many)]) == (200, [[str(n)] for n in range(90)])


def names_of(lines: list[str]) -> list[str]:
    return [line.partition(":")[0].lower() for line in lines]


# What goes wrong


@pytest.mark.parametrize("kind", ["lab", "plain_lab"])
def test_a_circle_is_broken_and_nobody_is_asked_twice(request: pytest.FixtureRequest, kind: str) -> None:
    """The backend of one site is the front of the other, and the other way round; with and without a scope."""
    lab: Lab = request.getfixturevalue(kind)

    def to_the_front_of(site: str) -> Callable[[dict[str, Any]], None]:
        front = lab.site(site).front("things").removeprefix("http://")
        return lambda settings: settings["services"]["things"].update(backend=front)

    with changed(lab, "Site1", to_the_front_of("Site2")), changed(lab, "Site2", to_the_front_of("Site1")):
        for headers in ([], [scoped("{things: Site2}")], [scoped("{things: (Site2)}")], [scoped("Site1")]):
            marked, path = mark(), f"/echo?{mark()[8:]}"
            wait_for(
                lambda headers=headers: call(lab.site("Site1").front("things"), b"/", *headers).status == 508,
                "the settings are in force in Envoy too",
            )
            refused = problem(call(lab.site("Site1").front("things"), path.encode(), *headers, marked), 508)
            assert "'things' on Site" in refused["detail"]
            passed = [
                (line["site"], line["listener"])
                for line in access(lab, path)
                if line["listener"] in ("front", "mesh") and line["to"]
            ]
            assert len(passed) == len(set(passed))
            assert reached(lab, marked) == []


def test_a_service_that_the_site_doesn_t_run_is_told(lab: Lab) -> None:
    with changed(lab, "Site2", lambda settings: settings["services"].pop("b")):
        for site in ("Site2", "(Site2)"):
            for name in ("Site1", "Site3"):
                marked = mark()
                refused = problem(call(lab.site(name).front("b"), b"/echo", scoped(f"{{b: {site}}}"), marked), 404)
                assert "Site2 doesn't run" in refused["detail"]
                assert refused["code"] == "no-such-service"
                assert reached(lab, marked) == []
            assert where(lab, "Site1", "a", scoped(f"{{a: Site1, b: {site}}}")) == ["Site1/things"]


def test_who_served_is_told_when_a_scope_was_given(lab: Lab, way: str) -> None:
    front = lab.site("Site1").front("things")
    for headers in ([scoped(f"{{things: {way}}}")], [f"baggage: scope={quote(way)}"]):
        assert call(front, b"/echo", *headers).values("cheops-served-by") == [name_of(way)]
    smuggled = reply("200 OK", "Cheops-Served-By: Site9")
    assert call(front, smuggled, scoped(f"{{things: {way}}}")).values("cheops-served-by") == [name_of(way)]
    assert call(front, b"/echo").values("cheops-served-by") == []


def test_the_access_logs_have_one_line_for_each_front_on_the_way(lab: Lab, way: str) -> None:
    name, scope = name_of(way), f"{{things: {way}}}"
    path = f"/echo?{mark()[8:]}"
    call(lab.site("Site1").front("things"), path.encode(), scoped(scope), "X-Request-ID: mine")
    lines = access(lab, path)
    (front,) = [line for line in lines if line["listener"] == "front"]
    agent = way != name
    assert (front["site"], front["service"], front["scope"].replace(way, name)) == (
        "Site1",
        "things",
        f"{{things: {name}}}",
    )
    assert front["to"] == ("agent" if agent else "local/things" if name == "Site1" else f"site/{name}")
    mesh = [line for line in lines if line["listener"] == "mesh"]
    egress = [line for line in lines if line["listener"] == "egress"]
    assert [(line["site"], line["to"], line["service"]) for line in mesh] == (
        [("Site2", "local/things", "things")] if name == "Site2" else []
    )
    assert [(line["site"], line["service"]) for line in egress] == ([("Site1", "things")] if agent else [])
    assert {line["scope"] for line in (*mesh, *egress)} <= {f"{{things: {name}}}"}  # resolved
    assert all(line["status"] == 200 and line["method"] == "GET" for line in lines)
    assert len(lines) == 1 + len(mesh) + len(egress)


def test_the_access_log_of_the_front_of_an_inner_call_tells_the_workflow(lab: Lab) -> None:
    scope = "{things: Site2, a: Site3}"
    seen = asked(lab.site("Site1"), "things", scoped(scope))
    path = f"/echo?{mark()[8:]}"
    told(call(lab.site("Site2").front("a"), path.encode(), *seen.lines("x-request-id")))
    here, there = sorted(access(lab, path), key=lambda line: str(line["site"]))
    assert (here["listener"], here["to"], there["listener"], there["to"]) == ("front", "site/Site3", "mesh", "local/a")
    assert [here["id"], there["id"]] == seen.values("x-request-id") * 2


def test_a_refused_request_is_logged_by_the_agent_with_its_reason(lab: Lab) -> None:
    name = f"Site{mark()[8:]}"
    problem(call(lab.site("Site1").front("things"), b"/echo", scoped(f"{{things: {name}}}")), 400)
    assert [line["code"] for line in agent_says(lab, "Site1", "refused") if name in json.dumps(line)] == ["bad-scope"]
