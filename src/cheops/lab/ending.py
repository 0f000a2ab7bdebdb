"""The end of a lab: every process, then every file. Works whatever else is broken, as it needs only the folder."""

import re
import shutil
from contextlib import suppress
from pathlib import Path

from cheops.intercept.envoy.process import Running
from cheops.lab.errors import LabFailed
from cheops.lab.layout import SHARED
from cheops.lab.processes import LOCK, alone, end_all, kill_forgotten, read_record, read_running

AGENT_PATIENCE = 15.0  # seconds: an agent drains its Envoy for up to 10
PATIENCE = 5.0
RECORD = "lab.json"
_FILES = (RECORD, "lab.half", "links.json", "links.log", "links.sock")


def end_lab(folder: Path) -> bool:
    """Ends and removes the lab in a folder; answers whether there was one."""
    if not (folder / RECORD).exists():
        return False
    with alone(folder):
        end_all_of(folder)
    return True


def end_all_of(folder: Path) -> None:
    """The same, for who is alone with the lab already. Agents end their Envoys; what is left after them is killed."""
    end_all({process: AGENT_PATIENCE if is_agent else PATIENCE for process, is_agent in _recorded(folder).items()})
    end_all(dict.fromkeys(_envoys(folder), PATIENCE))
    clear(folder)
    (folder / LOCK).unlink()
    with suppress(OSError):  # something else is kept in it
        folder.rmdir()


def clear(folder: Path) -> None:
    """Removes what a lab has put into its folder, and kills what was forgotten."""
    kill_forgotten(folder)
    for path in (*_sites(folder), folder / "deployment", folder / SHARED):
        shutil.rmtree(path, ignore_errors=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def living(folder: Path) -> list[Running]:
    """What still runs of the lab in a folder."""
    return [process for process in (*_recorded(folder), *_envoys(folder)) if process.lives]


def _recorded(folder: Path) -> dict[Running, bool]:
    """The processes that were written down, and whether each is an agent."""
    with suppress(LabFailed):
        return {process: name.endswith("/agent") for name, process in read_record(folder).running.items()}
    return {}


def _envoys(folder: Path) -> list[Running]:
    found = (read_running(site / "data" / "run" / "envoy.json") for site in _sites(folder))
    return [envoy for envoy in found if envoy]


def _sites(folder: Path) -> list[Path]:
    return [path for path in folder.glob("Site*") if re.fullmatch(r"Site\d+", path.name)]
