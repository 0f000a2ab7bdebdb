"""MariaDB of the lab, through its stock client. Each site has databases of its own: Site1_nova and so on."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

PORT = 13306
USER = PASSWORD = "bed"
NAMES = ("keystone", "glance", "placement", "nova_api", "nova_cell0", "nova", "neutron")
_FAST = b"SET autocommit=0, foreign_key_checks=0, unique_checks=0;"


@dataclass(frozen=True)
class Databases:
    """The databases of one site, at the address of the server."""

    address: str
    site: str

    def _options(self) -> list[str]:
        return ["--no-defaults", f"--host={self.address}", f"--port={PORT}", f"--user={USER}", f"--password={PASSWORD}"]

    def full(self, name: str) -> str:
        return f"{self.site}_{name}"

    def url(self, name: str) -> str:
        return f"mysql+pymysql://{USER}:{PASSWORD}@{self.address}:{PORT}/{self.full(name)}"

    def make(self, name: str) -> None:
        """An empty database, whatever was there."""
        self._run(f"DROP DATABASE IF EXISTS {self.full(name)}; CREATE DATABASE {self.full(name)}".encode())

    def run(self, name: str, *statements: str) -> None:
        self._run(";".join(statements).encode(), self.full(name))

    def load(self, name: str, dump: Path) -> None:
        self.make(name)
        self._run(_FAST + dump.read_bytes() + b"commit;", self.full(name))

    def dump(self, name: str, to: Path) -> None:
        with to.open("wb") as file:
            subprocess.run(["mariadb-dump", *self._options(), self.full(name)], stdout=file, check=True)

    def _run(self, sql: bytes, *database: str) -> None:
        subprocess.run(["mariadb", *self._options(), *database], input=sql, check=True)
