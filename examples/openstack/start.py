"""start.py NAME DATA …: becomes one of the bed's processes, with the environment and the options that it needs."""

import os
import sys
from pathlib import Path

WSGI = {
    "keystone": "keystone.wsgi.api",
    "glance": "glance.wsgi.api",
    "placement": "placement.wsgi.api",
    "neutron": "neutron.wsgi.api",
    "nova-api": "nova.wsgi.osapi_compute",
}
DAEMONS = {
    "nova-conductor": "nova-conductor",
    "nova-scheduler": "nova-scheduler",
    "nova-compute": "double-nova-compute",
}


def environment(data: Path, venv: Path) -> dict[str, str]:
    """What tells OpenStack's programs where a site's settings are; a few settings keep them small."""
    etc = str(data / "etc")
    return {
        **os.environ,
        "OS_KEYSTONE_CONFIG_DIR": etc,
        "OS_KEYSTONE_CONFIG_FILES": "keystone.conf",
        "OS_GLANCE_CONFIG_DIR": etc,
        "OS_PLACEMENT_CONFIG_DIR": etc,
        "OS_NOVA_CONFIG_DIR": etc,
        "OS_NOVA_CONFIG_FILES": f"{venv}/etc/nova/api-paste.ini;nova.conf",
        "OS_NEUTRON_CONFIG_DIR": etc,
        "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
        "PATH": f"{venv}/bin:{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
        "MALLOC_ARENA_MAX": "2",
        "EVENTLET_HUB": "poll",
    }


def uwsgi(name: str, venv: Path, backend: str) -> list[str]:
    """An API with one process and eight threads. It closes each connection: a kept one may end as a request comes."""
    options = ["--http-socket", backend, "--module", f"{WSGI[name]}:application", "--venv", str(venv)]
    size = ["--processes", "1", "--enable-threads", "--threads", "8", "--listen", "64", "--buffer-size", "65535"]
    return [*options, *size, "--need-app", "--die-on-term", "--single-interpreter", "--add-header", "Connection: close"]


def mariadb(data: Path, address: str) -> list[str]:
    """A small server that keeps nothing safe: its data ends with the lab."""
    home = data / "mariadb"
    places = [
        f"--datadir={home}/data",
        f"--socket={home}/socket",
        f"--pid-file={home}/pid",
        f"--init-file={home}/init.sql",
    ]
    fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--skip-log-bin", "--performance-schema=0"]
    small = [
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=32M",
        "--key-buffer-size=1M",
        "--max-connections=600",
    ]
    user = ["--user=root"] if os.getuid() == 0 else []
    at = [f"--bind-address={address}", "--port=13306", "--character-set-server=utf8mb3"]
    return ["mariadbd", "--no-defaults", *user, *places, *at, *fast, *small]


def rabbitmq(data: Path, address: str) -> dict[str, str]:
    """The environment of a broker that listens on one address and doesn't spin while it waits."""
    home = data / "rabbitmq"
    quiet = "+sbwt none +sbwtdcpu none +sbwtdio none +S 1:1"
    here = f"{{{address.replace('.', ',')}}}"
    return {
        **os.environ,
        "HOME": str(home),
        "RABBITMQ_NODENAME": f"bed-{address.replace('.', '-')}@localhost",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_DIST_PORT": "25672",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": "4370",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{quiet} -kernel inet_dist_use_interface {here}",
    }


def main(name: str, data: Path, *rest: str) -> None:
    if name == "mariadb":
        command = mariadb(data, rest[0])
        os.execvp(command[0], command)
    if name == "rabbitmq":
        os.execve("/usr/lib/rabbitmq/bin/rabbitmq-server", ["rabbitmq-server"], rabbitmq(data, rest[0]))
    venv = Path(rest[0]) / "venv"
    if name in WSGI:
        program, options = "uwsgi", uwsgi(name, venv, rest[1])
    else:
        program, options = DAEMONS[name], ["--config-file", str(data / "etc" / "nova.conf")]
    os.execve(venv / "bin" / program, [program, *options], environment(data, venv))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
