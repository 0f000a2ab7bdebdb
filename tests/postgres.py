"""A PostgreSQL server of the tests' own: in a folder of its own, on a unix socket, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BINARIES = (Path("/usr/lib/postgresql/15/bin"), Path("/usr/lib/postgresql/16/bin"), Path("/usr/lib/postgresql/17/bin"))
MISSING = "PostgreSQL isn't installed: apt-get install postgresql-15"
NOBODY = "nobody"  # PostgreSQL doesn't run as root


@dataclass
class Server:
    """A server whose data and socket are in `folder`."""

    folder: Path
    binaries: Path
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{self._user}@/{database}?host={self.folder}&port=5432"

    @property
    def _user(self) -> str:
        return NOBODY if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name

    def make(self) -> None:
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")

    def start(self) -> None:
        settings = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=on")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=self._user if os.getuid() == 0 else None,
            )
        end = time.monotonic() + 30
        while subprocess.run([self.binaries / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"PostgreSQL doesn't start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash does; its children see it and end too."""
        assert self.process
        children = self._children()
        self.process.kill()
        self.process.wait()
        end = time.monotonic() + 30
        while any(Path(f"/proc/{child}").exists() for child in children):
            if time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL's processes {children} don't end")
            time.sleep(0.05)

    def _children(self) -> list[str]:
        assert self.process
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def create(self, name: str) -> str:
        """The URL of a store of its own: a schema, since a crash with many databases takes long to recover from."""
        self._run("psql", "-h", str(self.folder), "-U", self._user, "-d", "postgres", "-qc", f'create schema "{name}"')
        return f"{self.url()}&options=-csearch_path%3D{name}"

    def _run(self, name: str, *words: str) -> None:
        user = self._user if os.getuid() == 0 else None
        done = subprocess.run([self.binaries / name, *words], capture_output=True, text=True, user=user, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr}")


@contextmanager
def running() -> Iterator[Server]:
    """A server that runs. Raises RuntimeError if there is none on this machine."""
    found = [folder for folder in BINARIES if (folder / "initdb").exists()]
    if not found:
        raise RuntimeError(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = Server(folder, found[0])
    try:
        if os.getuid() == 0:
            shutil.chown(folder, NOBODY)
        folder.chmod(0o700)
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
