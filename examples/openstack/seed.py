"""seed.py FOLDER DATA CACHE ADDRESS: makes, once, what every site begins with, and keeps it in CACHE/seed.

Databases with all migrations run (which takes longer than anything else), keystone's users and catalogue, and the keys
that its tokens are signed with. Sites made of one seed share their identity: a token of one is good on all of them.
"""

import base64
import hashlib
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from api import PASSWORD, Api
from databases import NAMES, Databases
from start import environment, uwsgi

from cheops.lab.description import fill_file

ANYWHERE = "seed.invalid"  # stands in the catalogue for the address of a site
CATALOGUE = {
    "glance": ("image", 9292, ""),
    "nova": ("compute", 8774, "/v2.1"),
    "placement": ("placement", 8778, ""),
    "neutron": ("network", 9696, ""),
}
FILES = ("keystone", "glance-api", "placement", "nova", "neutron")
KEYSTONE_SECONDS = 60


class Seed:
    """What is being made."""

    def __init__(self, folder: Path, data: Path, cache: Path, address: str) -> None:
        self.data, self.venv = data / "seed", cache / "venv"
        self.databases = Databases(address, "seed")
        self.keystone = f"{address}:15000"
        values = {
            "site": "seed",
            "address": address,
            "shared": address,
            "data": str(self.data),
            "cache": str(cache),
            "front.identity": self.keystone,
        }
        for name in FILES:
            path = self.data / "etc" / f"{name}.conf"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fill_file(folder / "conf" / f"{name}.conf", values))

    def run(self, program: str, config: str, *arguments: str) -> None:
        began = time.monotonic()
        command = [str(self.venv / "bin" / program), "--config-file", str(self.data / "etc" / config), *arguments]
        subprocess.run(command, env=environment(self.data, self.venv), check=True)
        print(f"{time.monotonic() - began:5.1f} s  {program} {' '.join(arguments[:2])}")

    def migrate(self) -> None:
        """All of OpenStack's schemas, two at a time."""
        for name in NAMES:
            self.databases.make(name)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda migrate: migrate(), (self._nova, self._neutron, self._keystone, self._rest)))

    def _nova(self) -> None:
        cell0, cell1 = self.databases.url("nova_cell0"), self.databases.url("nova")
        self.run("nova-manage", "nova.conf", "api_db", "sync")
        self.run("nova-manage", "nova.conf", "cell_v2", "map_cell0", "--database_connection", cell0)
        self.run("nova-manage", "nova.conf", "db", "sync")
        cell = ("--name", "cell1", "--database_connection", cell1, "--transport-url", "fake:///")
        self.run("nova-manage", "nova.conf", "cell_v2", "create_cell", *cell)

    def _neutron(self) -> None:
        self.run("neutron-db-manage", "neutron.conf", "upgrade", "heads")

    def _keystone(self) -> None:
        self.run("keystone-manage", "keystone.conf", "db_sync")
        for folder in ("fernet", "credential"):
            (self.data / folder).mkdir(mode=0o700, exist_ok=True)
            for number in "01":
                key = base64.urlsafe_b64encode(secrets.token_bytes(32))
                (self.data / folder / number).write_bytes(key)
        urls = [f"--bootstrap-{kind}-url=http://{ANYWHERE}:5000" for kind in ("public", "internal", "admin")]
        region = "--bootstrap-region-id=RegionOne"
        self.run("keystone-manage", "keystone.conf", "bootstrap", f"--bootstrap-password={PASSWORD}", *urls, region)

    def _rest(self) -> None:
        self.run("glance-manage", "glance-api.conf", "db_sync")
        self.run("placement-manage", "placement.conf", "db", "sync")

    def populate(self) -> None:
        """Keystone's users, projects and catalogue: those of the services, and an ordinary user 'demo'."""
        with self._running_keystone() as api:

            def ask(method: str, path: str, body: object = None) -> dict[str, dict[str, str]]:
                return api(self.keystone, method, f"/v3{path}", body)

            roles = {role["name"]: role["id"] for role in ask("GET", "/roles")["roles"]}
            if "service" not in roles:
                roles["service"] = ask("POST", "/roles", {"role": {"name": "service"}})["role"]["id"]
            project = _made(ask, "project", "service")
            for name, (kind, port, path) in CATALOGUE.items():
                user = _made(ask, "user", name, password=PASSWORD)
                for role in ("admin", "service"):
                    ask("PUT", f"/projects/{project}/users/{user}/roles/{roles[role]}")
                service = _made(ask, "service", name, type=kind)
                for interface in ("public", "internal"):
                    url = f"http://{ANYWHERE}:{port}{path}"
                    endpoint = {"service_id": service, "interface": interface, "region_id": "RegionOne", "url": url}
                    ask("POST", "/endpoints", {"endpoint": endpoint})
            demo, user = _made(ask, "project", "demo"), _made(ask, "user", "demo", password=PASSWORD)
            ask("PUT", f"/projects/{demo}/users/{user}/roles/{roles['member']}")

    @contextmanager
    def _running_keystone(self) -> Iterator[Api]:
        command = [self.venv / "bin" / "uwsgi", *uwsgi("keystone", self.venv, self.keystone)]
        child = subprocess.Popen(command, env=environment(self.data, self.venv))
        try:
            yield _logged_in(self.keystone)
        finally:
            child.terminate()
            child.wait()

    def keep(self, folder: Path) -> None:
        """Puts it into the cache; a half is never found there."""
        half = folder.with_name("seed.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        for name in NAMES:
            self.databases.dump(name, half / f"{name}.sql")
        for keys in ("fernet", "credential"):
            shutil.copytree(self.data / keys, half / keys)
        shutil.rmtree(folder, ignore_errors=True)
        half.rename(folder)


def _made(ask, kind: str, name: str, **fields: str) -> str:
    domain = {} if kind == "service" else {"domain_id": "default"}
    made = ask("POST", f"/{kind}s", {kind: {"name": name, **domain, **fields}})
    return made[kind]["id"]


def _logged_in(address: str) -> Api:
    end = time.monotonic() + KEYSTONE_SECONDS
    while True:
        try:
            return Api(address).login()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def state_of(folder: Path) -> str:
    """What the seed depends on; another state, another seed."""
    files = (folder / "pins.txt", folder / "seed.py", folder / "databases.py")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def main(folder: Path, data: Path, cache: Path, address: str) -> None:
    kept, state = cache / "seed", state_of(folder)
    stamp = kept / "state"
    if stamp.exists() and stamp.read_text() == state:
        return
    seed = Seed(folder, data, cache, address)
    seed.migrate()
    seed.populate()
    seed.keep(kept)
    stamp.write_text(state)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]), sys.argv[4])
