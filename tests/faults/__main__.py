"""`make faults`: five real sites, whose processes are killed, links cut, disks filled and clocks set, while clients
write; at the end every holder must be equal, and what clients heard be true. Exits with 1 if something is wrong.

The seed gives what is asked and what is broken when; how these meet depends on the machine too. As root it has mounts
of its own, which end with it; without them no disk is filled.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from subprocess import DEVNULL

from cheops.errors import CheopsError
from faults.aimed import AIMED, SETTLED_SECONDS
from faults.run import Verdict, running
from faults.setting import ALONE, setting, small_setting

LOGS = Path(".lab-faults")


def main() -> int:
    arguments = _arguments()
    _have_own_mounts()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    log = (arguments.logs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{arguments.seed}").absolute()
    log.mkdir(parents=True)
    print(f"seed {arguments.seed}; what happens is written to {log}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
            verdict = asyncio.run(judged(Path(folder).resolve(), log, arguments))
    except CheopsError as error:
        print(f"faults: {error}\n{error.hint or ''}")
        return 2
    end = f"{len(verdict.wrong)} things are WRONG, see {log}" if verdict.wrong else "all is well"
    print("\n".join([*verdict.sentences(), f"seed {arguments.seed}: {end}"]))
    return 1 if verdict.wrong else 0


def _have_own_mounts() -> None:
    """Starts anew with mounts that end with this process, where that may be had."""
    if ALONE in os.environ or subprocess.run(["unshare", "--mount", "true"], stderr=DEVNULL, check=False).returncode:
        return
    os.environ[ALONE] = "yes"
    os.execvp("unshare", ["unshare", "--mount", sys.executable, "-m", "faults", *sys.argv[1:]])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long things go wrong; else 10")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000), help="else it is drawn")
    parser.add_argument("--broken", choices=AIMED, default="", help="something is broken on purpose: it must be found")
    parser.add_argument("--aim", choices=AIMED, default="", help="the same, with nothing broken: all must be well")
    parser.add_argument("--logs", type=Path, default=LOGS, help=f"where logs are kept; else {LOGS}")
    return parser.parse_args()


async def judged(folder: Path, log: Path, arguments: argparse.Namespace) -> Verdict:
    """A whole run, or what shows that something is broken."""
    net = f"127.{100 + os.getpid() % 100}.{1 + arguments.seed % 200}"
    if aim := arguments.broken or arguments.aim:
        with small_setting(folder, net, arguments.broken) as made:
            async with running(made, arguments.seed, log) as run:
                await AIMED[aim](run)
                return await run.judged(SETTLED_SECONDS)
    with setting(folder, net) as made:
        async with running(made, arguments.seed, log) as run:
            await run.random(arguments.minutes * 60)
            return await run.judged()


if __name__ == "__main__":
    sys.exit(main())
