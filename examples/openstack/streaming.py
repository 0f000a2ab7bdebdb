"""A gigabyte through two sites: does it arrive, and does anything hold it in memory?"""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from bed import Bed
from console import Console
from memory import forget_peaks, peaks

SIZE = 1 << 30
BLOCK = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Took:
    """What an upload took; `grown` says of each process by how many bytes it was larger than before, at most."""

    command: str
    output: str
    arrived: bool
    seconds: float
    grown: dict[str, int]


def gigabyte(bed: Bed, console: Console) -> Took:
    path = bed.scratch / "large.raw"
    digest = _write(path)
    pids = {
        f"{what} of {site.name}": pid
        for site in bed.lab.sites
        for what, pid in site.status()["pids"].items()
        if what in ("agent", "envoy") and pid
    }
    forget_peaks(list(pids.values()))
    before = peaks(list(pids.values()))
    done = console.run(
        f"openstack image create large --file {path} --disk-format raw --scope '{{image: Site2}}' -f value -c status"
    )
    after = peaks(list(pids.values()))
    path.unlink()
    arrived = done.output.strip() == "active" and _hash_at(bed, "Site2") == digest
    return Took(
        command=done.command.replace(str(path), path.name),
        output=done.output,
        arrived=arrived,
        seconds=done.seconds,
        grown={name: after[pid] - before[pid] for name, pid in pids.items()},
    )


def _write(path: Path) -> str:
    """Blocks that differ, so that a lost or repeated one shows in the hash (SHA-512, which glance makes too)."""
    block, digest = random.Random(1).randbytes(BLOCK), hashlib.sha512()
    with path.open("wb") as file:
        for number in range(SIZE // BLOCK):
            numbered = number.to_bytes(8, "big") + block[8:]
            file.write(numbered)
            digest.update(numbered)
    return digest.hexdigest()


def _hash_at(bed: Bed, site: str) -> str:
    """What glance says of the image; then it is deleted."""
    api, address, image = bed.admin(site), bed.address(site, "image"), bed.find_image(site, "large")
    found = api(address, "GET", f"/v2/images/{image}")
    api(address, "DELETE", f"/v2/images/{image}")
    return str(found["os_hash_value"]) if found["size"] == SIZE else ""
