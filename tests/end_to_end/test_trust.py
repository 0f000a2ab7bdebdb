"""Who may do what: certificates between sites, what a site opens to whom, and what only Cheops itself may say."""

import datetime
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from cheops.lab.lab import Lab
from cheops.sites.certificates import Authority, issue, make_authority, read_authority
from end_to_end.asking import wait_for
from end_to_end.raw import (
    admin,
    call,
    changed,
    mark,
    problem,
    raw_app,
    reached,
    reply,
    take_up,
    told,
)
from end_to_end.wire import Answer, Wire, request

NOW = datetime.datetime.now(datetime.UTC)
WAYS = {"mesh": "Site2", "agent-and-mesh": "(Site2)"}


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app"), sites=3)


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def far(request: pytest.FixtureRequest) -> str:
    """Site2, so written that the request goes one of its ways."""
    return str(request.param)


def ask(lab: Lab, site: str, service: str, scope: str, *headers: str, target: bytes = b"/echo") -> Answer:
    return call(lab.site(site).front(service), target, f"X-Scope: {{{service}: {scope}}}", *headers)


# Certificates


def deployment(lab: Lab) -> Authority:
    return read_authority(lab.folder / "deployment")


@contextmanager
def connected(lab: Lab, tls: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[ssl.SSLSocket]:
    """A connection to the mesh of Site2, with the certificate in a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(lab.folder / "deployment" / "authority.pem")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    if tls:
        context.load_cert_chain(tls / "site.pem", tls / "site.key")
    address = (lab.site("Site2").address, 7443)
    with socket.create_connection(address, timeout=10) as plain, context.wrap_socket(plain) as tunnel:
        yield tunnel


def is_let_in(lab: Lab, tls: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bool:
    """Whether the mesh of Site2 speaks HTTP/2 with a client; in TLS 1.3 the client may believe so before it does."""
    with suppress(ssl.SSLError, ConnectionError), connected(lab, tls, version) as tunnel:
        tunnel.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        return tunnel.recv(9)[3:4] == b"\4"  # a frame of the type SETTINGS
    return False


def test_the_mesh_lets_a_site_in(lab: Lab) -> None:
    assert is_let_in(lab, lab.folder / "Site1" / "tls")


def test_the_mesh_refuses_whoever_shows_no_certificate(lab: Lab) -> None:
    assert not is_let_in(lab, None)


def test_the_mesh_refuses_a_certificate_of_another_authority(lab: Lab, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path / "authority", deployment(lab).deployment, NOW)
    issue(stranger, "Site1", tmp_path / "tls", NOW)
    assert not is_let_in(lab, tmp_path / "tls")


@pytest.mark.parametrize("name", ["other", "cheops.example"])
def test_the_mesh_refuses_a_site_of_another_deployment(lab: Lab, tmp_path: Path, name: str) -> None:
    """Even if the same authority has signed its certificate."""
    issue(replace(deployment(lab), deployment=name), "Site1", tmp_path, NOW)
    assert not is_let_in(lab, tmp_path)


def test_the_mesh_refuses_a_certificate_that_has_ended(lab: Lab, tmp_path: Path) -> None:
    issue(deployment(lab), "Site1", tmp_path, NOW - datetime.timedelta(days=900))
    assert not is_let_in(lab, tmp_path)


def test_the_mesh_refuses_old_tls(lab: Lab) -> None:
    assert not is_let_in(lab, lab.folder / "Site1" / "tls", ssl.TLSVersion.TLSv1_2)


def test_a_site_that_shows_another_s_name_is_not_believed(lab: Lab, far: str) -> None:
    """Where Site1 looks for the mesh of Site2, Site3 answers."""
    marked = mark()

    def mislead(settings: dict[str, Any]) -> None:
        settings["peers"]["Site2"]["mesh"] = f"{lab.site('Site3').address}:7443"

    assert ask(lab, "Site1", "things", far).status == 200
    with changed(lab, "Site1", mislead):
        wait_for(lambda: not admin(lab, "Site1", "/site")["peers"]["Site2"]["reachable"], "Site1 doesn't believe it")
        refused = problem(ask(lab, "Site1", "things", far, marked), 503)
        assert (refused["site"], refused["code"]) == ("Site2", "unreachable")
        assert "Site2 can't be reached from Site1" in refused["detail"]
        assert ask(lab, "Site1", "things", "Site3").status == 200
    assert reached(lab, marked) == []
    wait_for(lambda: ask(lab, "Site1", "things", far).status == 200, "Site1 reaches Site2 again")


def serial(lab: Lab) -> int:
    """Of the certificate that the mesh of Site2 shows."""
    with connected(lab, lab.folder / "Site1" / "tls") as tunnel:
        return x509.load_der_x509_certificate(tunnel.getpeercert(binary_form=True) or b"").serial_number


def renewed(lab: Lab, site: str) -> int:
    """Gives a running site another key and certificate; answers the serial number."""
    issue(deployment(lab), site, lab.folder / site / "tls", NOW)
    return x509.load_pem_x509_certificate((lab.folder / site / "tls" / "site.pem").read_bytes()).serial_number


def moved_into_place(lab: Lab, site: str, tmp_path: Path) -> int:
    """The same as somebody with other tools does it: one file after the other."""
    issue(deployment(lab), site, tmp_path, NOW)
    for name in ("site.key", "site.pem"):
        (tmp_path / name).replace(lab.folder / site / "tls" / name)
    return x509.load_pem_x509_certificate((lab.folder / site / "tls" / "site.pem").read_bytes()).serial_number


class Load:
    """Requests from Site1 to Site2 and back, on connections of their own, until it is ended."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._ended = lab, threading.Event()
        self.answers: list[int | str] = []
        self._threads = [
            threading.Thread(target=self._run, args=way) for way in (("Site1", "Site2"), ("Site2", "Site1"))
        ]

    def _run(self, here: str, there: str) -> None:
        while not self._ended.is_set():
            try:
                self.answers.append(ask(self._lab, here, "things", there).status)
            except OSError as error:
                self.answers.append(repr(error))

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        seen = len(self.answers)
        wait_for(lambda: len(self.answers) > seen + 20, "requests go on")


@pytest.mark.parametrize("how", ["issued", "moved"])
def test_a_renewed_certificate_is_shown_without_a_restart_or_a_failed_request(
    lab: Lab, tmp_path: Path, how: str
) -> None:
    envoys = {site.name: site.status()["pids"]["envoy"] for site in lab.sites}
    with Load(lab) as load:
        load.goes_on()
        for site in ("Site1", "Site2"):
            new = renewed(lab, site) if how == "issued" else moved_into_place(lab, site, tmp_path / site)
            load.goes_on()
        wait_for(lambda: serial(lab) == new, "Site2 shows its new certificate", 5)
        load.goes_on()
    assert set(load.answers) == {200}
    lab.cut("Site1", "Site2")  # so that the next request begins with a handshake
    lab.heal("Site1", "Site2")
    for here, there in (("Site1", "Site2"), ("Site2", "Site1")):
        wait_for(lambda here=here, there=there: ask(lab, here, "things", there).status == 200, "the new ones are good")
    assert {site.name: site.status()["pids"]["envoy"] for site in lab.sites} == envoys


# What a site opens to whom


def test_open_to_lets_only_the_named_sites_use_a_service(lab: Lab, far: str) -> None:
    with changed(lab, "Site2", lambda settings: settings["services"]["identity"].update(open_to=["Site3"])):
        wait_for(lambda: ask(lab, "Site1", "identity", far).status == 403, "Envoy knows it")
        marked = mark()
        refused = problem(ask(lab, "Site1", "identity", far, marked), 403)
        assert "Site2" in refused["detail"]
        assert refused["code"] == "not-open"
        assert reached(lab, marked) == []
        assert ask(lab, "Site3", "identity", far, marked).status == 200
        assert ask(lab, "Site2", "identity", far, marked).status == 200
        assert reached(lab, marked) == ["Site2/identity"] * 2
        assert ask(lab, "Site1", "things", far).status == 200
    wait_for(lambda: ask(lab, "Site1", "identity", far).status == 200, "it is open again")


def test_open_to_nobody_is_possible(lab: Lab, far: str) -> None:
    with changed(lab, "Site2", lambda settings: settings["services"]["identity"].update(open_to=[])):
        for site in ("Site1", "Site3"):
            wait_for(lambda site=site: ask(lab, site, "identity", far).status == 403, "Envoy knows it")
        assert ask(lab, "Site2", "identity", far).status == 200


def test_open_to_binds_inner_calls_and_other_names_too(lab: Lab) -> None:
    """By request id, by an alias, by a bare site, through the URL: it is the target site that decides."""
    seen = told(ask(lab, "Site1", "things", "Site1, identity: Site2"))
    marked, front = mark(), lab.site("Site1").front("identity")
    with changed(lab, "Site2", lambda settings: settings["services"]["identity"].update(open_to=["Site3"])):
        wait_for(lambda: ask(lab, "Site1", "identity", "Site2").status == 403, "Envoy knows it")
        for headers in (seen.lines("x-request-id"), ["X-Scope: {Keystone: Site2}"], ["X-Scope: Site2"]):
            problem(call(front, b"/echo", *headers, marked), 403)
    assert reached(lab, marked) == []


# What only Cheops itself may say or hear


def through_egress(lab: Lab, *lines: str, method: str = "GET", body: bytes | None = None) -> Answer:
    """What the Envoy of Site1 sends to Site2 for whoever got hold of the socket of Site1's agent: a hostile peer."""
    with Wire.__new__(Wire) as wire:
        wire.socket, wire._buffer = socket.socket(socket.AF_UNIX), b""
        wire.socket.settimeout(10)
        wire.socket.connect(str(lab.site("Site1").data / "run" / "egress.sock"))
        wire.send(request(method, b"/", "cheops-to: site/Site2", *lines, body=body, host="mesh"))
        return wire.answer(method)


ADMIN = ["/site", "/readyz", "/healthz", "/scope?text=Site1", "/docs"]
ENVOYS = ["/config_dump", "/stats", "/clusters", "/certs", "/quitquitquit", "/drain_listeners", "/healthcheck/fail"]


def test_a_hostile_peer_reaches_services_and_nothing_else(lab: Lab) -> None:
    """The mesh offers what it is for: services, and the scopes that the agent keeps for workflows."""
    assert told(through_egress(lab, "cheops-service: things", "cheops-path: /echo/x")).target == "/echo/x"
    for path in (*ADMIN, *ENVOYS):
        for method in ("GET", "POST"):
            for service in ("cheops", "CHEOPS", "agent", "local/things", ""):
                answer = through_egress(lab, f"cheops-service: {service}", f"cheops-path: {path}", method=method)
                assert answer.status in (404, 405), (path, method, service, answer)
    listed = through_egress(lab, "cheops-service: cheops", "cheops-path: /openapi.json").body
    assert b"/kept/{uuid}" in listed
    assert b"/site" not in listed
    assert admin(lab, "Site2", "/readyz")["ready"]


@pytest.mark.parametrize(
    "uuid", ["..%2f..%2fsite.yaml", "%2e%2e/site.yaml", "../../../tls/site.key", "x", "%00", "." * 300]
)
def test_a_hostile_peer_reads_no_file(lab: Lab, uuid: str) -> None:
    answer = through_egress(lab, "cheops-service: cheops", f"cheops-path: /kept/{uuid}")
    assert answer.status in (400, 404)


def test_fronts_lead_to_services_alone(lab: Lab) -> None:
    """Whatever the path, it is the service's; the admin interfaces of the agent and of Envoy aren't there."""
    front = lab.site("Site1").front("things")
    for path in (*ADMIN, *ENVOYS, "/kept/c4e0f001-8ab7-8395-9f6e-892951d0f60f", "/health?from=Site2"):
        for scope in ([], ["X-Scope: {things: Site2}"], ["X-Scope: {things: (Site1)}"]):
            assert told(call(front, path.encode(), *scope, method="POST", body=b"")).target == path


SMUGGLED = [
    "Cheops-To: site/Site3",
    "cheops-to: agent",
    "Cheops-Service: identity",
    "Cheops-Path: /elsewhere",
    "CHEOPS-SERVED-BY: Site9",
    "Cheops-Anything: 1",
    "X-Envoy-Upstream-Rq-Timeout-Ms: 1",
    "X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms: 1",
    "X-Envoy-Retry-On: 5xx,retriable-status-codes",
    "X-Envoy-Retriable-Status-Codes: 503",
    "X-Envoy-Max-Retries: 5",
    "X-Envoy-Hedge-On-Per-Try-Timeout: true",
    "X-Envoy-Original-Path: /elsewhere",
    "X-Envoy-Original-Dst-Host: 127.0.0.1:9",
    "X-Envoy-Internal: true",
    "x-envoy-force-trace: true",
]


@pytest.mark.parametrize(
    "scope", [[], *([f"X-Scope: {{things: {way}}}"] for way in ("Site1", "(Site1)", *WAYS.values()))]
)
def test_what_clients_smuggle_has_no_effect(lab: Lab, scope: list[str]) -> None:
    front, where = lab.site("Site1").front("things"), "Site2/things" if "Site2" in "".join(scope) else "Site1/things"
    marked = mark()
    seen = told(call(front, b"/echo/here", *SMUGGLED, *scope, marked))
    assert seen.target == "/echo/here"
    names = {name for name, _ in seen.headers if name.startswith(("cheops-", "x-envoy-"))}
    assert names <= {"cheops-via"}
    assert reached(lab, marked) == [where]
    failed = mark()
    assert call(front, reply("503 Not now"), *SMUGGLED, *scope, failed).status == 503
    assert reached(lab, failed) == [where]  # once
    assert call(front, b"/lines?1", *SMUGGLED, *scope).status == 200  # it takes longer than a millisecond


def test_what_a_service_says_of_cheops_is_replaced(lab: Lab, far: str) -> None:
    """A service can't pretend to be of another site."""
    answer = ask(lab, "Site1", "things", far, target=reply("200 OK", "Cheops-Served-By: Site9"))
    assert answer.values("cheops-served-by") == ["Site2"]


def test_sockets_and_keys_are_their_owner_s_alone(lab: Lab) -> None:
    for site in lab.sites:
        run = site.data / "run"
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        sockets = {path.name: path.stat().st_mode for path in run.iterdir() if path.is_socket()}
        assert sockets.keys() >= {"door.sock", "mesh.sock", "egress.sock", "envoy.sock"}
        assert {stat.S_IMODE(mode) for mode in sockets.values()} == {0o600}
        assert stat.S_IMODE((lab.folder / site.name / "tls" / "site.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((lab.folder / "deployment" / "authority.key").stat().st_mode) == 0o600


def test_sockets_are_their_owner_s_alone_after_changes_and_restarts_too(lab: Lab) -> None:
    old = os.umask(0)
    try:
        lab.restart("Site3", "agent")
        take_up(lab, "Site3", (lab.folder / "Site3" / "site.yaml").read_text() + "\n# as it was\n")
    finally:
        os.umask(old)
    lab.kill("Site3", "envoy")
    wait_for(lambda: lab.site("Site3").status()["ready"], "Site3 is ready again")
    test_sockets_and_keys_are_their_owner_s_alone(lab)


def test_nothing_but_fronts_mesh_and_admin_listens(lab: Lab) -> None:
    """And the admin API on loopback alone, which in a lab all addresses are."""
    site = lab.site("Site1")
    pids = site.status()["pids"]
    mine = {inode for what in ("agent", "envoy") for inode in _inodes(pids[what])}
    listening = {address for address, inode in _listening() if inode in mine}
    ends = [site.front(service) for service in site.services] + [site.admin, f"http://{site.address}:7443"]
    assert listening == {end.removeprefix("http://") for end in ends}


def _inodes(pid: int) -> set[str]:
    links = (str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink())
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def _listening() -> Iterator[tuple[str, str]]:
    """(address, inode) of the TCP sockets that listen (proc(5): state 0A)."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                host, _, port = fields[1].partition(":")
                yield f"{socket.inet_ntoa(bytes.fromhex(host)[:4][::-1])}:{int(port, 16)}", fields[9]
