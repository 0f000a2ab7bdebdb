"""What a lab might leave behind, looked for without asking the lab."""

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cheops.lab.lab import Lab


@dataclass(frozen=True)
class Traces:
    """Where a lab was: its folder, and the addresses at which it listened."""

    folder: Path
    addresses: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, lab: Lab) -> "Traces":
        urls = [urlsplit(url) for site in lab.sites for url in _urls_of(lab, site.name)]
        return cls(lab.folder, tuple((str(url.hostname), url.port or 0) for url in urls))

    def left(self) -> list[str]:
        """The processes that name the folder, the ports that answer, and the folder itself."""
        folder = [str(self.folder)] if self.folder.exists() else []
        return [
            *self.processes(),
            *(f"{host}:{port}" for host, port in self.addresses if _answers(host, port)),
            *folder,
        ]

    def processes(self) -> list[str]:
        name = str(self.folder).encode()
        return [
            path.parent.name + " " + _read(path).replace(b"\0", b" ").decode(errors="replace")
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if name in _read(path) or name in _read(path.parent / "environ")
        ]


def _urls_of(lab: Lab, name: str) -> list[str]:
    site = lab.site(name)
    ends = [url for service in site.services for url in (site.front(service), site.backend(service))]
    links = [f"http://{site.address}:{17000 + number}" for number in range(1, len(lab.sites) + 1)]
    return [*ends, site.admin, f"http://{site.address}:7443", *links]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _answers(host: str, port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex((host, port)) == 0
