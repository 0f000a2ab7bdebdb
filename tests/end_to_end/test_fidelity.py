"""HTTP passes front, agent and mesh byte for byte, both ways. Rows H, L1 and A3, A4 of the field reports."""

import gzip
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cheops.lab.lab import Lab
from end_to_end.wire import Answer, Wire, request

RAW = Path(__file__).parent / "apps" / "raw"
WAYS = {
    "here": [],  # Envoy alone
    "here, scoped": ["X-Scope: {things: Site1}"],
    "mesh": ["X-Scope: {things: Site2}"],  # Envoy to Envoy
    "agent": ["X-Scope: {things: (Site1)}"],  # parentheses: nothing that Lua would decide
    "agent and mesh": ["X-Scope: {things: (Site2)}"],
}
PLAIN = {name: scope for name, scope in WAYS.items() if not name.startswith("agent")}


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab]) -> Lab:
    return lab_of(RAW, sites=2)


@pytest.fixture(params=WAYS, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def way(request: pytest.FixtureRequest) -> list[str]:
    return WAYS[request.param]


@pytest.fixture(params=PLAIN, ids=lambda name: name.replace(", ", "-"))
def plain(request: pytest.FixtureRequest) -> list[str]:
    return PLAIN[request.param]


@pytest.fixture
def front(lab: Lab) -> Iterator[Wire]:
    with Wire((lab.site("Site1").address, 8700)) as wire:
        yield wire


def told(answer: Answer) -> tuple[str, str, list[tuple[str, str]]]:
    """Method, target and headers as they reached the service."""
    assert answer.status == 200, answer.body
    first, *lines = json.loads(answer.body)["head"].split("\r\n")
    method, target, _ = first.split(" ", 2)
    return method, target, [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]


def reply(head: bytes, body: bytes = b"") -> bytes:
    """The target that makes the service answer just this."""
    return b"/answer?" + (b"HTTP/1.1 " + head + b"\r\n\r\n" + body).hex().encode()


TARGETS = [
    b"/echo/%2F/%2E%2E/%25/%28%29",
    b"/echo//a//b/../c/./d",
    b"/echo/a;b=c,d+e%20f?q=a+b&q=%2B&empty=&=&x",
    b"/echo/%c3%a9/%C3%A9",
    b"//echo//a",
    b"/echo?a?b=/../%2e%2e",
    b"/echo/'!*~@:$&=[]|",
    b"/echo/" + b"long" * 1500,
]


@pytest.mark.parametrize("target", TARGETS, ids=range(len(TARGETS)))
def test_h5_targets_are_equal_byte_for_byte(front: Wire, way: list[str], target: bytes) -> None:
    front.send(request("GET", target, *way))
    _, seen, _ = told(front.answer())
    assert seen.encode("latin-1") == target


def test_h6_repeated_headers_keep_their_order_and_number_on_the_way_in(front: Wire, way: list[str]) -> None:
    sent = [
        ("cookie", "a=1"),
        ("x-many", "one"),
        ("link", "<a>"),
        ("x-many", "two"),
        ("x-many", "one"),
        ("link", "<b>"),
    ]
    front.send(request("GET", b"/echo", *(f"{name}: {value}" for name, value in sent), *way))
    _, _, headers = told(front.answer())
    for name in ("x-many", "link", "cookie"):
        assert [v for k, v in headers if k == name] == [v for k, v in sent if k == name]


def test_h6_repeated_headers_keep_their_order_and_number_on_the_way_out(front: Wire, way: list[str]) -> None:
    cookies = [f"Set-Cookie: c{i}={i}; Path=/; Expires=Wed, 21 Oct 2037 07:28:00 GMT" for i in range(5)]
    lines = [*cookies, "Via: 1.1 a", "Link: </1>; rel=next", "Via: 1.1 b", "Link: </2>; rel=prev"]
    head = "\r\n".join(["200 OK", *lines, "Content-Length: 2"]).encode()
    front.send(request("GET", reply(head, b"ok"), *way))
    answer = front.answer()
    assert answer.values("set-cookie") == [line.partition(": ")[2] for line in cookies]
    assert (
        ", ".join(answer.values("via")).replace(" ", "") == "1.1a,1.1b"
    )  # Envoy joins Via lines, as RFC 9110 5.3 allows
    assert answer.values("link") == ["</1>; rel=next", "</2>; rel=prev"]
    assert answer.body == b"ok"


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip", "unheard-of"])
def test_h8_encoded_bodies_are_left_alone(front: Wire, way: list[str], encoding: str) -> None:
    body = gzip.compress(b"x" * 1000) if "gzip" in encoding else b"\x8b\x03\x80not really\x03"
    head = f"200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}".encode()
    front.send(request("GET", reply(head, body), "Accept-Encoding: gzip, br;q=0.5", *way))
    answer = front.answer()
    assert answer.values("content-encoding") == [encoding]
    assert answer.body == body


def test_accept_encoding_and_user_agent_are_the_client_s_own(front: Wire, way: list[str]) -> None:
    front.send(request("GET", b"/echo", *way))
    _, _, headers = told(front.answer())
    assert not {"accept-encoding", "user-agent", "accept", "content-type"} & {name for name, _ in headers}


@pytest.mark.parametrize("status", ["204 No Content", '304 Not Modified\r\nETag: "x"'])
def test_replies_without_a_body(front: Wire, way: list[str], status: str) -> None:
    for _ in range(2):  # twice: the connection goes on
        front.send(request("GET", reply(status.encode()), *way))
        answer = front.answer()
        assert (answer.status, answer.body) == (int(status[:3]), b"")
    assert not answer.values("transfer-encoding")


def test_head_keeps_the_length_of_what_get_would_give(front: Wire, way: list[str]) -> None:
    for _ in range(2):
        front.send(request("HEAD", reply(b"200 OK\r\nContent-Length: 12345"), *way))
        answer = front.answer("HEAD")
        assert (answer.status, answer.values("content-length")) == (200, ["12345"])


@pytest.mark.parametrize("method", ["PATCH", "OPTIONS", "DELETE", "PROPFIND", "REPORT", "PURGE"])
def test_methods(front: Wire, way: list[str], method: str) -> None:
    front.send(request(method, b"/echo", *way, body=b"{}"))
    seen, _, _ = told(front.answer())
    assert seen == method


@pytest.mark.parametrize("status", [299, 418, 451, 507, 599])
def test_unusual_statuses(front: Wire, way: list[str], status: int) -> None:
    front.send(request("GET", reply(f"{status} Own Words\r\nContent-Length: 2".encode(), b"ok"), *way))
    assert front.answer().status == status


def test_chunked_bodies_arrive_whole(front: Wire, way: list[str]) -> None:
    pieces = [os.urandom(size) for size in (1, 3000, 70_000, 5)]
    front.send(request("POST", b"/echo", "Transfer-Encoding: chunked", *way))
    for piece in pieces:
        front.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    front.send(b"0\r\n\r\n")
    answer = front.answer()
    assert json.loads(answer.body)["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.parametrize("size", [0, 1, 1 << 10, 1 << 20, 10 << 20], ids=["0", "1", "1K", "1M", "10M"])
def test_h2_bodies_of_every_size_arrive_whole(front: Wire, way: list[str], size: int) -> None:
    body = os.urandom(size)
    front.send(request("PUT", b"/echo", *way, body=body))
    seen = json.loads(front.answer().body)
    assert (seen["bytes"], seen["sha256"]) == (size, hashlib.sha256(body).hexdigest())


def test_expect_waits_for_the_service(front: Wire, way: list[str]) -> None:
    front.send(request("PUT", b"/echo", "Expect: 100-continue", "Content-Length: 5", *way))
    status, _ = front.head()
    assert status == 100
    front.send(b"hello")
    assert json.loads(front.answer().body)["bytes"] == 5


@pytest.mark.parametrize("status", [401, 413])
def test_h4_an_early_refusal_reaches_the_client_and_the_body_is_not_sent(
    lab: Lab, front: Wire, way: list[str], status: int
) -> None:
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode()
    mark = os.urandom(8).hex()
    target = b"/early?" + head.hex().encode()
    lines = ["Expect: 100-continue", "Content-Length: 104857600", f"X-Mark: {mark}"]
    front.send(request("PUT", target, *lines, *way))
    answer = front.answer()
    assert (answer.status, answer.interim, answer.body) == (status, [], b"no")
    assert seen_with(lab, mark)["bytes"] == 0


def seen(lab: Lab, site: str) -> str:
    """What the service of a site has been asked so far, one JSON line a request."""
    (path,) = lab.site(site).data.parent.rglob("things.jsonl")
    return path.read_text()


def seen_with(lab: Lab, mark: str) -> dict[str, object]:
    """What the service saw of the request that bears a mark; it is told once it is over."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for site in ("Site1", "Site2"):
            for line in seen(lab, site).splitlines():
                if mark in line:
                    return json.loads(line)
        time.sleep(0.02)
    raise AssertionError(f"no service saw {mark}")


@pytest.mark.parametrize("status", [401, 413])
def test_h4_an_early_refusal_without_expect_reaches_the_client(front: Wire, way: list[str], status: int) -> None:
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode()
    front.send(request("PUT", b"/early?" + head.hex().encode(), "Content-Length: 100000", *way))
    assert front.answer().status == status


def test_a3_chunked_lines_are_seen_at_once(front: Wire, way: list[str]) -> None:
    front.send(request("GET", b"/lines?4", *way))
    assert front.head()[0] == 200
    for _ in range(4):
        sent = json.loads(front.chunk())["sent"]
        assert time.time() - sent < 0.1


def test_a3_events_are_seen_at_once_and_their_headers_before_the_first(front: Wire, way: list[str]) -> None:
    before = time.monotonic()
    front.send(request("GET", b"/events?3", "Accept: text/event-stream", *way))
    assert front.head()[0] == 200
    assert time.monotonic() - before < 0.25  # the first event comes after 0.3 s
    for _ in range(3):
        sent = json.loads(front.chunk().decode().removeprefix("data: "))["sent"]
        assert time.time() - sent < 0.1


@pytest.mark.parametrize("kind", ["websocket", "SPDY/3.1", "tcp"])
def test_a4_upgraded_connections_carry_bytes_both_ways_and_end(front: Wire, plain: list[str], kind: str) -> None:
    key = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] if kind == "websocket" else []
    front.send(request("GET", b"/upgrade", "Connection: Upgrade", f"Upgrade: {kind}", *key, *plain))
    status, headers = front.head()
    assert status == 101
    assert dict(headers)["upgrade"].lower() == kind.lower()
    for data in (b"\x00\x01hello", os.urandom(100_000)):
        front.send(data)
        assert front.take(len(data)) == data


def test_a_client_that_leaves_ends_what_is_done_for_it(lab: Lab, way: list[str]) -> None:
    mark = os.urandom(8).hex()
    with Wire((lab.site("Site1").address, 8700)) as wire:
        wire.send(request("GET", b"/lines?600", f"X-Mark: {mark}", *way))
        assert wire.head()[0] == 200
        wire.chunk()
    seen_with(lab, mark)  # is told only once the service can't write any more; else it would take two minutes


DESYNC = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "space before colon": b"Content-Length : 5\r\n\r\nhello",
    "strange coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "not a number": b"Content-Length: +5\r\n\r\nhello",
}


@pytest.mark.parametrize("case", DESYNC)
def test_h12_requests_with_two_meanings_reach_nobody(lab: Lab, front: Wire, way: list[str], case: str) -> None:
    mark = os.urandom(8).hex()
    lines = [b"POST /echo HTTP/1.1", b"Host: front", f"X-Mark: {mark}".encode(), *(line.encode() for line in way)]
    front.send(b"\r\n".join(lines) + b"\r\n" + DESYNC[case])
    status = front.head()[0]
    assert status in ({501, 400} if case == "strange coding" else {400})
    front.socket.close()
    assert not [site for site in ("Site1", "Site2") if mark in seen(lab, site)]


def test_h12_a_folded_header_arrives_as_one_line(front: Wire, way: list[str]) -> None:
    """Envoy does the other thing that RFC 9112 5.2 allows: the fold becomes spaces before anybody reads it."""
    front.send(request("GET", b"/echo", b"X-Fold: a\r\n b", *way))
    _, _, headers = told(front.answer())
    assert [value.split() for name, value in headers if name == "x-fold"] == [["a", "b"]]


def test_h13_a_redirect_of_a_service_is_the_client_s_business(front: Wire, way: list[str]) -> None:
    head = b"302 Found\r\nLocation: http://169.254.169.254/latest/meta-data\r\nContent-Length: 0"
    front.send(request("GET", reply(head), *way))
    answer = front.answer()
    assert (answer.status, answer.values("location")) == (302, ["http://169.254.169.254/latest/meta-data"])


@pytest.mark.parametrize("spelling", ["X-Scope", "x-scope", "X-SCOPE"])
def test_h14_the_scope_s_header_is_found_in_any_case_and_the_path_is_left_alone(front: Wire, spelling: str) -> None:
    front.send(request("GET", b"/echo/Some/Path", f"{spelling}: {{things: Site2}}"))
    answer = front.answer()
    assert answer.values("cheops-served-by") == ["Site2"]
    assert told(answer)[1] == "/echo/Some/Path"


@pytest.mark.parametrize("target", [b"/", b"/v2", b"/v2/", b"/v2/versions-of-things"])
def test_h15_discovery_is_nothing_special(front: Wire, way: list[str], target: bytes) -> None:
    front.send(request("GET", target, *way))
    assert told(front.answer())[1].encode() == target


def test_internal_headers_can_t_be_smuggled(front: Wire, way: list[str]) -> None:
    smuggled = [
        "Cheops-To: site/Site2",
        "cheops-service: identity",
        "Cheops-Path: /etc",
        "Cheops-Peer: x",
        "CHEOPS-X: y",
    ]
    smuggled += [
        "X-Envoy-Retry-On: 5xx",
        "X-Envoy-Max-Retries: 9",
        "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
        "X-Envoy-Original-Path: /",
    ]
    front.send(request("GET", b"/echo/here", *smuggled, *way))
    answer = front.answer()
    _, target, headers = told(answer)
    assert target == "/echo/here"
    assert answer.values("cheops-served-by") in ([], ["Site2" if "Site2" in "".join(way) else "Site1"])
    assert not [name for name, _ in headers if name.startswith(("cheops-", "x-envoy-")) and name != "cheops-via"]


def memory(lab: Lab, site: str) -> dict[str, int]:
    """Resident memory of the site's Envoy and agent, in bytes."""
    pids, page = lab.site(site).status()["pids"], os.sysconf("SC_PAGE_SIZE")
    return {name: int(Path(f"/proc/{pids[name]}/statm").read_text().split()[1]) * page for name in ("envoy", "agent")}


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_h1_four_gigabytes_pass_in_constant_memory(lab: Lab, front: Wire, direction: str, way: list[str]) -> None:
    size, block = 4 << 30, os.urandom(1 << 20)
    before = {site: memory(lab, site) for site in ("Site1", "Site2")}
    if direction == "upload":
        front.send(request("PUT", b"/echo", f"Content-Length: {size}", *way))
        for _ in range(size // len(block)):
            front.send(block)
        assert json.loads(front.answer().body)["bytes"] == size
    else:
        front.send(request("GET", b"/download?%d" % size, *way))
        assert front.head()[0] == 200
        left, buffer = size, bytearray(1 << 20)
        left -= len(front.take(len(front._buffer)))
        while left:
            left -= front.socket.recv_into(buffer)
    for site, parts in before.items():
        for name, was in parts.items():
            assert memory(lab, site)[name] - was < 64 << 20, (site, name)
