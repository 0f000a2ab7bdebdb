"""`cheops run`: clients that people have anyway, here curl and HTTPie from Debian, with a scope."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import wait_for
from end_to_end.raw import mark, raw_app, reached, reply

CHEOPS = str(Path(sys.executable).parent / "cheops")
ORDER = {"customer": "Ada", "items": [{"sku": "coffee", "quantity": 2}]}
AT_SITE2 = "{orders: Site1, catalog: Site2}"  # which alone sells coffee
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def needed(name: str, package: str) -> str:
    found = shutil.which(name)
    assert found, f"`{name}` is missing; `apt-get install {package}` brings it, as `make test` does for root"
    return found


@pytest.fixture(scope="module")
def curl() -> str:
    return needed("curl", "curl")


@pytest.fixture(scope="module")
def http() -> str:
    return needed("http", "httpie")


@pytest.fixture(scope="module")
def raw(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_of(raw_app(tmp_path_factory.mktemp("raw") / "app"), sites=2)


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    return {**kept, "PYTHONWARNINGS": "default", **more}  # the clients' own Python need not be as strict as ours


def run(scope: str, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
    words = [CHEOPS, "run", "--scope", scope, "--", *command]
    return subprocess.run(words, env=environment(**more), text=True, capture_output=True, timeout=60, check=False)


def said(done: "subprocess.CompletedProcess[str]") -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def started(scope: str, *command: str, before: tuple[str, ...] = ()) -> Iterator["subprocess.Popen[str]"]:
    """`cheops run` in a process group of its own, as a shell starts it; ended if it still runs, and all its files."""
    words = [*before, CHEOPS, "run", "--scope", scope, "--", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        subprocess.Popen(words, env=environment(TMPDIR=folder), text=True, process_group=0, **pipes) as child,
    ):
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


def proxies() -> set[str]:
    """The processes that serve as the proxy of some `cheops run` of this user."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.endswith(b"/envoy.json") and b"/cheops-" in word for word in words):
            found.add(path.parent.name)
    return found


# Clients


def test_curl_orders_at_the_prices_of_another_site(shop: Lab, curl: str) -> None:
    orders = shop.site("Site1").front("orders") + "/orders"
    assert "total" not in said(run("{orders: Site1}", curl, "-sS", orders, "-d", json.dumps(ORDER)))
    assert said(run(AT_SITE2, curl, "-sS", orders, "-d", json.dumps(ORDER)))["total"] == 2 * 720


def test_httpie_orders_at_the_prices_of_another_site(shop: Lab, http: str) -> None:
    orders = shop.site("Site1").front("orders") + "/orders"
    words = (
        http,
        "--ignore-stdin",
        "--check-status",
        "POST",
        orders,
        "customer=Ada",
        f"items:={json.dumps(ORDER['items'])}",
    )
    assert said(run(AT_SITE2, *words))["total"] == 2 * 720
    refused = run("{orders: Site1}", *words)
    assert refused.returncode == 4  # HTTPie's own, of an answer 4xx
    assert json.loads(refused.stdout)["sku"] == "coffee"


@pytest.mark.parametrize(
    "scope", ["{orders:Site1,catalog:Site2}", '{"order": "Site1", "kinto": "Site2"}', " {catalog : Site2 }"]
)
def test_the_scope_may_be_written_in_many_ways(shop: Lab, curl: str, scope: str) -> None:
    orders = shop.site("Site1").front("orders") + "/orders"
    assert said(run(scope, curl, "-sS", orders, "-d", json.dumps(ORDER)))["total"] == 2 * 720


def test_a_bare_site_is_that_of_whatever_service_is_asked(shop: Lab, curl: str) -> None:
    url = "/v1/buckets/shop/collections/products/records/coffee"
    words = ("-sS", "-o", "/dev/null", "-w", "%{http_code}")
    assert said(run("Site2", curl, *words, shop.site("Site1").front("catalog") + url)) == 200
    assert said(run("Site1", curl, *words, shop.site("Site1").front("catalog") + url)) == 404


def test_a_site_that_isn_t_known_is_told_by_the_front(shop: Lab, curl: str) -> None:
    refused = said(run("{catalog: Site9}", curl, "-sS", shop.site("Site1").front("orders") + "/orders"))
    assert (refused["code"], refused["column"]) == ("bad-scope", 11)


def test_several_requests_and_programs_of_one_command_have_the_scope(shop: Lab, curl: str) -> None:
    url = shop.site("Site1").front("catalog") + "/v1/buckets/shop/collections/products/records/coffee"
    script = f"{curl} -sSf {url} {url} >/dev/null && {curl} -sSf {url} >/dev/null && echo all"
    assert run("{catalog: Site2}", "sh", "-c", script).stdout == "all\n"


# What the command itself says and does


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_is_the_command_s(status: int) -> None:
    assert run("{a: Site1}", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_command_that_dies_of_a_signal_ends_as_in_a_shell(number: signal.Signals) -> None:
    assert run("{a: Site1}", "sh", "-c", f"kill -{number.value} $$").returncode == 128 + number


def test_words_output_and_input_are_the_command_s() -> None:
    script = "import sys; print(sys.argv[1:], sys.stdin.read()); print('!', file=sys.stderr)"
    words = [CHEOPS, "run", "--scope", "{a: Site1}", "--", sys.executable, "-c", script, "--scope", "-x", "a b", ""]
    done = subprocess.run(words, env=environment(), input="in", text=True, capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("['--scope', '-x', 'a b', ''] in\n", "!\n")


def test_a_command_that_isn_t_there_is_told() -> None:
    done = run("{a: Site1}", "no-such-command", "-x")
    assert (done.returncode, done.stderr) == (127, "cheops run: no-such-command: No such file or directory\n")
    done = run("{a: Site1}", "/")
    assert (done.returncode, done.stderr) == (126, "cheops run: /: Permission denied\n")


@pytest.mark.parametrize("text", ["{orders: Site1, catalog Site2}", "{orders: Site1", "", "{orders: Site1 &}"])
def test_a_mistake_in_the_scope_is_shown_and_nothing_is_run(tmp_path: Path, text: str) -> None:
    done = run(text, "touch", str(tmp_path / "ran"))
    assert (done.returncode, done.stdout) == (2, "")
    assert not text or "^" in done.stderr.splitlines()[1]
    assert "column" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_for_cheops_run_reaches_the_command(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit 9' {number.value}; touch {ready}; while :; do sleep 0.05; done"
    before = proxies()
    with started("{a: Site1}", "sh", "-c", script) as child:
        wait_for(ready.exists, "the command runs")
        child.send_signal(number)
        assert child.wait(10) == 9
    assert proxies() <= before


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"touch {ready}; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; exit 9"
    with started("{a: Site1}", "sh", "-c", script, before=("nohup",)) as child:
        wait_for(ready.exists, "the command runs")
        os.killpg(child.pid, signal.SIGHUP)
        (tmp_path / "go").touch()
        assert child.wait(10) == 9


def test_ctrl_c_is_for_the_command_to_decide(tmp_path: Path) -> None:
    """The terminal sends it to the whole group; the proxy stays until the command has ended."""
    ready = tmp_path / "ready"
    script = f"trap 'sleep 0.2; exit 9' INT; touch {ready}; while :; do sleep 0.05; done"
    before = proxies()
    with started("{a: Site1}", "sh", "-c", script) as child:
        wait_for(ready.exists, "the command runs")
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(10) == 9
    assert proxies() <= before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("early", [True, False], ids=["before-the-command", "during-the-command"])
def test_a_signal_at_any_time_leaves_no_proxy_behind(tmp_path: Path, number: signal.Signals, early: bool) -> None:
    """Even SIGKILL, which nobody can answer."""
    before, ran = proxies(), tmp_path / "ran"
    with started("{a: Site1}", "sh", "-c", f"touch {ran}; exec sleep 30") as child:
        wait_for(lambda: proxies() - before if early else ran.exists(), "it has got so far")
        os.killpg(child.pid, number)
        assert child.wait(10) != 0
    wait_for(lambda: proxies() <= before, "the proxy has ended", 5)


def test_a_signal_leaves_no_files_behind(tmp_path: Path) -> None:
    words = [CHEOPS, "run", "--scope", "{a: Site1}", "--", "sh", "-c", "kill -TERM $PPID; sleep 30"]
    done = subprocess.run(words, env=environment(TMPDIR=str(tmp_path)), timeout=60, check=False)
    assert done.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


# The proxy


def test_https_is_refused_plainly(curl: str, http: str) -> None:
    """A scope can't be put into what is encrypted; to send the request without it would be another request."""
    url = "https://127.0.0.1:9/x"
    for client in ((curl, "-sS", url), (http, "--ignore-stdin", url)):
        done = run("{a: Site1}", *client)
        assert done.returncode not in (0, 2)
        assert "cheops run: " in done.stderr
        assert "HTTPS" in done.stderr
        assert "http://" in done.stderr


def test_http_alone_says_nothing_of_https(raw: Lab, curl: str) -> None:
    done = run("{things: Site2}", curl, "-sS", raw.site("Site1").front("things") + "/echo")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exceptions_in_the_environment_don_t_defeat_it(raw: Lab, curl: str, http: str, name: str) -> None:
    url = raw.site("Site1").front("things") + "/echo"
    for client in ((curl, "-sS", url), (http, "--ignore-stdin", "--body", url)):
        done = run("{things: Site2}", *client, **{name: "*,127.0.0.0/8,localhost"})
        assert "x-scope: {things: Site2}" in said(done)["head"]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_another_proxy_in_the_environment_is_not_asked(raw: Lab, curl: str, name: str) -> None:
    done = run(
        "{things: Site2}", curl, "-sS", raw.site("Site1").front("things") + "/echo", **{name: "http://127.0.0.1:9"}
    )
    assert "x-scope: {things: Site2}" in said(done)["head"]


def test_the_scope_of_the_command_replaces_one_of_the_client(raw: Lab, curl: str) -> None:
    marked = mark()
    url = raw.site("Site1").front("things") + "/echo"
    said(run("{things: Site2}", curl, "-sS", "-H", "X-Scope: {things: Site1}", "-H", marked, url))
    assert reached(raw, marked) == ["Site2/things"]


def test_what_nobody_answers_is_told(curl: str) -> None:
    refused = said(run("{a: Site1}", curl, "-sS", "http://127.0.0.1:9/"))
    assert (refused["status"], refused["detail"]) == (503, "cheops run can't reach 127.0.0.1:9")
    refused = said(run("{a: Site1}", curl, "-sS", "http://no.such.host.invalid/"))
    assert refused["detail"] == "cheops run can't reach no.such.host.invalid"


def test_the_path_passes_byte_for_byte(raw: Lab, curl: str) -> None:
    path = "/echo/%2F/%2E%2E//a/../b?x=%20+&y=[z]"
    done = run("{things: Site2}", curl, "-sS", "--globoff", "--path-as-is", raw.site("Site1").front("things") + path)
    assert said(done)["head"].startswith(f"GET {path} HTTP/1.1\r\n")


def test_redirects_of_a_service_stay_with_the_scope(raw: Lab, curl: str) -> None:
    """The client follows them through the same proxy, to the same front."""
    location = raw.site("Site2").backend("things") + "/echo/there"
    url = raw.site("Site1").front("things") + reply("302 Found", f"Location: {location}").decode()
    head = said(run("{things: Site2}", curl, "-sSL", url))["head"]
    assert head.startswith("GET /echo/there ")
    assert "x-scope: {things: Site2}" in head


HUNDRED_MEGABYTES = 100 << 20


def test_an_upload_streams(raw: Lab, curl: str) -> None:
    """Bytes reach the service while the client has yet to send the rest; the proxy's memory stays small."""
    url = raw.site("Site1").front("things") + "/echo"
    words = [CHEOPS, "run", "--scope", "{things: Site2}", "--", curl, "-sS", "-T", "-", url]
    before = proxies()
    with subprocess.Popen(words, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        block, largest = bytes(1 << 20), 0
        for _ in range(HUNDRED_MEGABYTES // len(block)):
            child.stdin.write(block)  # blocks while too much is on the way
            largest = max(largest, *(memory(pid) for pid in proxies() - before))
        child.stdin.close()
        told = json.loads(child.stdout.read())
    assert (child.returncode, told["bytes"], told["complete"]) == (0, HUNDRED_MEGABYTES, True)
    assert largest < 150 << 20  # an Envoy at rest has 60 to 80 MB


def memory(pid: str) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_lines_are_seen_as_they_come(raw: Lab, curl: str) -> None:
    words = [
        CHEOPS,
        "run",
        "--scope",
        "{things: Site2}",
        "--",
        curl,
        "-sSN",
        raw.site("Site1").front("things") + "/lines?4",
    ]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE) as child:
        assert child.stdout
        for line in child.stdout:
            assert time.time() - json.loads(line)["sent"] < 0.15


WEBSOCKET = """
import os, socket, sys, urllib.parse
url, proxy = sys.argv[1], urllib.parse.urlsplit(os.environ["http_proxy"])
wire = socket.create_connection((proxy.hostname, proxy.port), 10)
lines = [f"GET {url} HTTP/1.1", f"Host: {urllib.parse.urlsplit(url).netloc}", "Connection: Upgrade"]
lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
wire.sendall("\\r\\n".join(lines).encode())
head = b""
while not head.endswith(b"\\r\\n\\r\\n"):
    head += wire.recv(1)
assert head.startswith(b"HTTP/1.1 101 "), head
assert b"cheops-served-by: Site2" in head, head
for data in (b"\\x00\\x01hello", os.urandom(100_000)):
    wire.sendall(data)
    back = b""
    while len(back) < len(data):
        back += wire.recv(1 << 16)
    assert back == data
print("passed")
"""


def test_a_websocket_passes(raw: Lab) -> None:
    """By a client that sends its upgrade to the proxy, as websocket libraries do for ws:// with a plain proxy."""
    url = raw.site("Site1").front("things") + "/upgrade"
    done = run("{things: Site2}", sys.executable, "-c", WEBSOCKET, url)
    assert done.stdout == "passed\n", done.stderr


def test_two_at_once_have_proxies_of_their_own(raw: Lab, curl: str) -> None:
    url = raw.site("Site1").front("things") + "/lines?3"
    with (
        started("{things: Site1}", curl, "-sS", "-i", url) as one,
        started("{things: Site2}", curl, "-sS", "-i", url) as two,
    ):
        for child, site in ((one, "Site1"), (two, "Site2")):
            out, _ = child.communicate(timeout=30)
            assert f"cheops-served-by: {site}" in out
