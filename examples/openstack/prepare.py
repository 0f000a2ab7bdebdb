"""prepare.py SITE ADDRESS DATA CACHE SHARED: a site's databases and keys, copied from the seed; once."""

import shutil
import sys
from pathlib import Path

from databases import NAMES, Databases
from seed import ANYWHERE

FOLDERS = ("images", "staging", "tasks", "nova", "neutron", "lock")


def main(site: str, address: str, data: Path, cache: Path, shared: str) -> None:
    done = data / "prepared"
    if done.exists():
        return
    for name in FOLDERS:
        (data / name).mkdir(parents=True, exist_ok=True)
    for name in ("fernet", "credential"):
        shutil.copytree(cache / "seed" / name, data / name, dirs_exist_ok=True)
    databases = Databases(shared, site)
    for name in NAMES:
        databases.load(name, cache / "seed" / f"{name}.sql")
    databases.run("keystone", f"UPDATE endpoint SET url = REPLACE(url, '//{ANYWHERE}:', '//{address}:')")
    broker = f"rabbit://bed:bed@{shared}:5672/{site}"
    cells = "UPDATE cell_mappings SET database_connection"
    databases.run(
        "nova_api",
        f"{cells} = '{databases.url('nova_cell0')}' WHERE id = 1",
        f"{cells} = '{databases.url('nova')}', transport_url = '{broker}' WHERE id = 2",
        # what `nova-manage cell_v2 discover_hosts` would find out
        f"INSERT INTO host_mappings (created_at, cell_id, host) VALUES (NOW(), 2, 'compute-{site}')",
    )
    done.touch()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
