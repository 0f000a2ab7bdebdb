"""shared.py DATA SITES: what MariaDB and RabbitMQ need before they start the first time."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from databases import PASSWORD, USER


def definitions(sites: int) -> dict[str, object]:
    """RabbitMQ's: the bed's user, and a virtual host for each site, and for one that may join later."""
    salt = b"bed."
    digest = base64.b64encode(salt + hashlib.sha256(salt + PASSWORD.encode()).digest()).decode()
    hosts = [f"Site{number}" for number in range(1, sites + 2)]
    hashing = {"password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256"}
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [{"name": USER, **hashing, "tags": "administrator"}],
        "vhosts": [{"name": host} for host in hosts],
        "permissions": [{"user": USER, "vhost": host, **everything} for host in hosts],
    }


def main(data: Path, sites: int) -> None:
    rabbitmq, mariadb = data / "rabbitmq", data / "mariadb"
    rabbitmq.mkdir(parents=True, exist_ok=True)
    (rabbitmq / "definitions.json").write_text(json.dumps(definitions(sites)))
    (rabbitmq / "enabled_plugins").write_text("[].\n")
    if (mariadb / "data" / "mysql").is_dir():
        return
    mariadb.mkdir(parents=True, exist_ok=True)
    grant = f"GRANT ALL ON *.* TO '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
    (mariadb / "init.sql").write_text(grant)
    user = ["--user=root"] if os.getuid() == 0 else []
    options = [f"--datadir={mariadb}/data", "--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run(["mariadb-install-db", "--no-defaults", *user, *options], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
