"""`A & B` on real sites: Kinto and a registry, which know nothing of it; Envoy, agents, links and disks are real."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import yaml

from cheops.lab.lab import Lab
from end_to_end.asking import Reply, ask, wait_for
from end_to_end.raw import admin, read_settings, settings_of, write_settings
from end_to_end.test_registry import send

RECORDS = "/v1/buckets/shop/collections/products/records"
SECRET = "shop:never-to-be-found-on-any-disk"
AUTHORIZATION = f"Basic {b64encode(SECRET.encode()).decode()}"
BOTH = "{catalog: Site1 & Site2}"
MB = 1 << 20
SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture(scope="module")
def whole_lab(lab_of: Callable[..., Lab]) -> Lab:
    """Its records may be written by anybody who says a name."""
    lab = lab_of("shop", sites=3)
    own = {"catalog": {"kind": "header", "value": "Basic " + b64encode(b"agent:of-a-site").decode()}}
    for site in lab.sites:
        open_to_all(lab, site.name)
        path = settings_of(lab, site.name)
        write_settings(path, {**read_settings(path), "credentials": own})
    return lab


def open_to_all(lab: Lab, name: str) -> None:
    url = lab.site(name).backend("catalog") + "/v1/buckets/shop"
    everybody = {"permissions": {"write": ["system.Authenticated"]}}
    seeder = "Basic " + b64encode(b"shop:shop").decode()
    assert ask(url, "PATCH", send=everybody, Authorization=seeder, Content_Type="application/json").status == 200


@pytest.fixture
def lab(whole_lab: Lab) -> Iterator[Lab]:
    """The lab, mended afterwards. A catalog that was killed has forgotten all: it is seeded anew."""
    yield whole_lab
    whole_lab.heal()
    for site in whole_lab.sites:
        if site.status()["pids"]["agent"] is None:
            whole_lab.restart(site.name, "agent")
        if site.status()["pids"]["catalog"] is None:
            revive(whole_lab, site.name)
    wait_for(lambda: all(states(whole_lab, site.name) == {"up"} for site in whole_lab.sites), "all are up", 60)


def revive(lab: Lab, name: str) -> None:
    lab.restart(name, "catalog")
    catalog = lab.site(name).backend("catalog") + "/v1"
    seed = [sys.executable, str(SHOP / "seed.py"), "--catalog", catalog, "--site", name]
    subprocess.run(seed, check=True, capture_output=True)
    open_to_all(lab, name)


def states(lab: Lab, site: str) -> set[str]:
    return {peer["state"] for peer in admin(lab, site, "/sites")["peers"]}


def call(
    lab: Lab, site: str, method: str, path: str, data: Any = None, scope: str | None = None, **headers: str
) -> Reply:
    named = {"Authorization": AUTHORIZATION, "Content_Type": "application/json"} | headers
    body = None if data is None else {"data": data}
    return ask(lab.site(site).front("catalog") + path, method, scope=scope, send=body, **named)


def at_backend(lab: Lab, site: str, path: str) -> dict[str, Any] | None:
    """What the service itself has, without what it sets itself."""
    answer = ask(lab.site(site).backend("catalog") + path, Authorization=AUTHORIZATION)
    if answer.status != 200:
        return None
    record: dict[str, Any] = answer.json["data"]
    return {name: value for name, value in record.items() if name != "last_modified"}


def same_on(lab: Lab, path: str, *sites: str, seconds: float = 30) -> dict[str, Any] | None:
    """What these sites have, once they have the same."""

    def same() -> tuple[dict[str, Any] | None] | None:
        found = [at_backend(lab, site, path) for site in sites]
        return (found[0],) if all(one == found[0] for one in found) else None

    return wait_for(same, f"{path} is the same on {', '.join(sites)}", seconds)[0]


def make(lab: Lab, name: str, scope: str = BOTH, **fields: Any) -> Reply:
    made = call(lab, "Site1", "PUT", f"{RECORDS}/{name}", fields or {"price": 1}, scope)
    assert made.status == 201, made.body
    return made


def test_made_changed_read_and_deleted_from_any_site(lab: Lab) -> None:
    made = call(lab, "Site1", "POST", RECORDS, {"title": "Jar"}, BOTH)
    assert (made.status, made.headers["cheops-outcome"]) == (201, "Site1=201, Site2=201")
    rid, local = made.headers["cheops-resource"], made.json["data"]["id"]
    assert same_on(lab, f"{RECORDS}/{local}", "Site1", "Site2") == {"id": local, "title": "Jar"}
    wait_for(lambda: call(lab, "Site3", "PATCH", f"{RECORDS}/{local}", {"price": 5}).status == 200, "Site3 knows")
    assert same_on(lab, f"{RECORDS}/{local}", "Site1", "Site2") == {"id": local, "title": "Jar", "price": 5}
    assert at_backend(lab, "Site3", f"{RECORDS}/{local}") is None
    assert call(lab, "Site3", "GET", f"{RECORDS}/{rid}").json["data"]["price"] == 5
    assert call(lab, "Site2", "DELETE", f"{RECORDS}/{rid}").status == 200
    assert same_on(lab, f"{RECORDS}/{local}", "Site1", "Site2") is None


def test_a_read_of_a_replica_never_meets_the_agent(lab: Lab) -> None:
    make(lab, "fast")
    wait_for(lambda: call(lab, "Site2", "PATCH", f"{RECORDS}/fast", {"price": 2}).status == 200, "it is managed")
    call(lab, "Site2", "GET", f"{RECORDS}/fast", X_Mark="fast")
    lines = wait_for(
        lambda: [x for x in lab.site("Site2").access_log() if x["path"] == f"{RECORDS}/fast" and x["method"] == "GET"],
        "it is logged",
    )
    assert {line["listener"] for line in lines} == {"front"}  # the agent would ask the service by itself


def test_p1_p3_a_cut_site_gets_the_changes_and_never_a_deletion(lab: Lab) -> None:
    make(lab, "cut", title="a", price=1)
    lab.blackhole("Site1", "Site2")
    wait_for(lambda: "down" in states(lab, "Site1") and "down" in states(lab, "Site2"), "both have found it")
    first = call(lab, "Site1", "PATCH", f"{RECORDS}/cut", {"price": 2})
    assert first.headers["cheops-outcome"] == "Site1=200, Site2=pending"
    assert call(lab, "Site2", "PATCH", f"{RECORDS}/cut", {"title": "b"}).headers["cheops-outcome"].endswith("Site2=200")
    lab.heal()
    assert same_on(lab, f"{RECORDS}/cut", "Site1", "Site2") == {"id": "cut", "title": "b", "price": 2}


def test_p13_what_was_accepted_while_cut_survives_kill_9(lab: Lab) -> None:
    make(lab, "kept", price=1)
    lab.cut("Site1", "Site2")
    wait_for(lambda: "down" in states(lab, "Site1"), "Site1 has found it")
    for price in (2, 3, 4):
        assert (
            "Site2=pending"
            in call(lab, "Site1", "PATCH", f"{RECORDS}/kept", {"price": price}).headers["cheops-outcome"]
        )
    lab.kill("Site1", "agent")
    lab.restart("Site1", "agent")
    lab.heal()
    assert same_on(lab, f"{RECORDS}/kept", "Site1", "Site2") == {"id": "kept", "price": 4}


def test_p2_an_agent_without_its_store_deletes_nothing(lab: Lab) -> None:
    make(lab, "wiped", price=7)
    lab.kill("Site2", "agent")
    data = lab.folder / "Site2" / "data"
    for file in data.glob("log.db*"):
        file.unlink()
    lab.restart("Site2", "agent")
    wait_for(lambda: states(lab, "Site2") == {"up"}, "it is back")

    def changed() -> bool:
        return call(lab, "Site2", "PATCH", f"{RECORDS}/wiped", {"price": 8}).headers.get("cheops-resource") is not None

    wait_for(changed, "Site2 knows the resource again")
    assert same_on(lab, f"{RECORDS}/wiped", "Site1", "Site2") == {"id": "wiped", "price": 8}
    deleted = [
        line for line in lab.site("Site2").access_log() if line["method"] == "DELETE" and "wiped" in line["path"]
    ]
    assert deleted == []


def test_p7_a_deletion_while_a_site_is_down(lab: Lab) -> None:
    make(lab, "gone", scope="{catalog: Site1 & Site2 & Site3}")
    lab.kill("Site3", "catalog")
    answer = call(lab, "Site1", "DELETE", f"{RECORDS}/gone")
    assert (answer.status, answer.headers["cheops-outcome"]) == (200, "Site1=200, Site2=200, Site3=pending")
    revive(lab, "Site3")  # it has kept nothing: the deletion finds nothing there, and that is well
    converged = admin(lab, "Site1", f"/resources/{answer.headers['cheops-resource']}/converged?timeout=60")
    assert converged["converged"], json.dumps(converged)


def test_w3_any_other_site_goes_on_while_an_agent_is_dead(lab: Lab) -> None:
    make(lab, "alive")
    lab.kill("Site1", "agent")
    answer = call(lab, "Site2", "PATCH", f"{RECORDS}/alive", {"price": 9})
    assert answer.status == 200
    assert "Site2=200" in answer.headers["cheops-outcome"]
    lab.restart("Site1", "agent")
    assert same_on(lab, f"{RECORDS}/alive", "Site1", "Site2") == {"id": "alive", "price": 9}


def test_l6_a_mute_site_keeps_nobody_waiting(lab: Lab) -> None:
    make(lab, "mute", scope="{catalog: Site1 & Site2 & Site3}")
    pid = lab.site("Site3").status()["pids"]["catalog"]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = call(lab, "Site1", "PATCH", f"{RECORDS}/mute", {"price": 3}, Prefer="wait=2")
        assert answer.status == 200
        assert "Site3=pending" in answer.headers["cheops-outcome"]
        assert time.monotonic() - began < 4
        assert at_backend(lab, "Site2", f"{RECORDS}/mute") == {"id": "mute", "price": 3}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert same_on(lab, f"{RECORDS}/mute", "Site1", "Site2", "Site3") == {"id": "mute", "price": 3}


def test_a6_a_list_of_several_sites(lab: Lab) -> None:
    make(lab, "listed")
    answer = call(lab, "Site3", "GET", RECORDS, scope=BOTH)
    ids = [record["id"] for record in answer.json["data"]]
    assert ids.count("listed") == 1
    assert ids.count("tea") == 2  # two products of the same name, one of each site
    lab.kill("Site2", "catalog")
    partial = call(lab, "Site1", "GET", RECORDS, scope=BOTH)
    assert (partial.status, partial.headers["cheops-outcome"]) == (200, "Site1=200, Site2=unreachable")


def test_pages_of_a_list_lead_on_at_our_front(lab: Lab) -> None:
    make(lab, "paged")
    whole = call(lab, "Site1", "GET", f"{RECORDS}?_sort=id", scope=BOTH)
    url, seen = f"{lab.site('Site1').front('catalog')}{RECORDS}?_sort=id&_limit=2", []
    scope: str | None = BOTH
    for _ in range(20):
        answer = ask(url, scope=scope, Authorization=AUTHORIZATION)
        assert answer.status == 200, answer.body
        seen += [record["id"] for record in answer.json["data"]]
        if "next-page" not in answer.headers:
            break
        url, scope = answer.headers["next-page"], None
        assert url.startswith(lab.site("Site1").front("catalog"))
    assert sorted(seen) == sorted(record["id"] for record in whole.json["data"])


def test_a_scoped_write_to_some_of_the_holders_is_refused(lab: Lab) -> None:
    rid = make(lab, "subset").headers["cheops-resource"]
    for site, scope in (("Site1", "{catalog: Site1}"), ("Site3", "{catalog: Site2}")):

        def refused(site: str = site, scope: str = scope) -> Any:
            return call(lab, site, "PATCH", f"{RECORDS}/subset", {"price": 3}, scope).status == 409

        wait_for(refused, "it is refused")
    answer = call(lab, "Site3", "PATCH", f"{RECORDS}/subset", {"price": 3}, "{catalog: Site2}")
    assert f"cheops resource scope {rid}" in answer.json["hint"]
    assert same_on(lab, f"{RECORDS}/subset", "Site1", "Site2") == {"id": "subset", "price": 1}


def test_w1_a_plan_prints_the_request_of_each_site(lab: Lab) -> None:
    answer = call(lab, "Site1", "POST", RECORDS, {"title": "Planned"}, BOTH, Cheops_Plan="only")
    plan = answer.json
    assert (answer.status, plan["collaboration"]) == (200, "replication")
    assert [(step["site"], step["request"]["method"]) for step in plan["steps"]] == [
        ("Site1", "POST"),
        ("Site2", "POST"),
    ]
    titles = [record.get("title") for record in call(lab, "Site1", "GET", RECORDS, scope=BOTH).json["data"]]
    assert "Planned" not in titles


def test_no_secret_is_on_any_disk_and_only_holders_have_a_resource(lab: Lab) -> None:
    """The authorization that all of these tests use, and a text that only two sites were given."""
    text = "only-for-site1-and-site2"
    make(lab, "secret", title=text)
    rid = call(lab, "Site1", "PATCH", f"{RECORDS}/secret", {"price": 2}).headers["cheops-resource"]
    same_on(lab, f"{RECORDS}/secret", "Site1", "Site2")
    words = [AUTHORIZATION.split()[1].encode(), SECRET.encode()]
    files = [path for path in lab.folder.rglob("*") if path.is_file()]
    assert any("log.db" in path.name for path in files)
    for path in files:
        content = path.read_bytes()
        assert not any(word in content for word in words), path
        if path.is_relative_to(lab.folder / "Site3" / "data") and "log.db" in path.name:
            assert text.encode() not in content
            assert rid.encode() not in content


# A registry: what is uploaded in two steps, at an address that each site makes


@pytest.fixture(scope="module")
def images(lab_of: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    assert shutil.which("docker-registry"), "this test needs Debian's docker-registry: apt-get install docker-registry"
    folder = tmp_path_factory.mktemp("registry") / "app"
    shutil.copytree(Path(__file__).parent / "apps" / "registry", folder)
    (folder / "application.yaml").unlink()
    lab = yaml.safe_load((folder / "lab.yaml").read_text())
    (folder / "lab.yaml").write_text(yaml.safe_dump({"application": "registry", **lab}))
    return lab_of(folder, sites=3)


ON_ALL = {"X-Scope": "{registry: Site1 & Site2 & Site3}"}


def rss(lab: Lab) -> int:
    """The most memory that an agent of the lab has now, in bytes."""
    pids = [site.status()["pids"]["agent"] for site in lab.sites]
    return max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)


@pytest.mark.parametrize("size", [1 << 10, MB, 10 * MB, 300 * MB])
def test_h1_h2_t3_an_upload_arrives_whole_on_each_site(images: Lab, tmp_path: Path, size: int) -> None:
    front = images.site("Site1").front("registry")
    content = os.urandom(MB) * (size // MB) if size >= MB else os.urandom(size)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    before = rss(images)
    status, headers, body = send("POST", f"{front}/v2/demo/blobs/uploads/", ON_ALL, b"")
    assert status == 202, body
    assert headers["cheops-outcome"] == "Site1=202, Site2=202, Site3=202"
    file = tmp_path / "content"
    file.write_bytes(content)
    done = subprocess.run(
        [
            *("curl", "-s", "-X", "PATCH", "-H", "Expect:", "-H", "Content-Type: application/octet-stream"),
            *("-T", str(file), "-H", "Prefer: wait=100", "-D", str(tmp_path / "headers"), headers["location"]),
        ],
        capture_output=True,
        timeout=200,
        check=True,
    )
    said = (tmp_path / "headers").read_text()
    assert said.splitlines()[0].split()[1] == "202", done.stdout
    location = next(
        line.partition(":")[2].strip() for line in said.splitlines() if line.lower().startswith("location:")
    )
    more = "&" if urlsplit(location).query else "?"
    status, headers, body = send("PUT", f"{location}{more}digest={quote(digest)}", {"Prefer": "wait=100"}, b"")
    assert status == 201, body
    assert headers["cheops-outcome"] == "Site1=201, Site2=201, Site3=201"
    for site in images.sites:
        status, _, got = send("GET", f"{site.backend('registry')}/v2/demo/blobs/{digest}", {})
        assert (status, hashlib.sha256(got).hexdigest()) == (200, digest.removeprefix("sha256:"))
    assert rss(images) - before < 64 * MB


def test_a_manifest_is_pushed_to_all_and_pulled_from_each(images: Lab) -> None:
    front = images.site("Site2").front("registry")
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    status, headers, _ = send("POST", f"{front}/v2/demo/blobs/uploads/", ON_ALL, b"")
    more = "&" if urlsplit(headers["location"]).query else "?"
    octets = {"Content-Type": "application/octet-stream"}
    assert send("PUT", f"{headers['location']}{more}digest={quote(digest)}", octets, config)[0] == 201
    kind = "application/vnd.oci.image.manifest.v1+json"
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config), "digest": digest}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": described, "layers": []}).encode()
    status, headers, body = send("PUT", f"{front}/v2/demo/manifests/latest", {**ON_ALL, "Content-Type": kind}, manifest)
    assert (status, headers["cheops-outcome"]) == (201, "Site1=201, Site2=201, Site3=201"), body
    for site in images.sites:
        status, _, got = send("GET", f"{site.front('registry')}/v2/demo/manifests/latest", {"Accept": kind})
        assert (status, got) == (200, manifest)
