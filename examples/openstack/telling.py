"""What every step of the tour does: runs commands as a user would, tells what they print, and checks what they did."""

import sys
import time
from collections.abc import Callable

from bed import Bed
from console import Console, Done, transcript

BOLD, DIM, GREEN, RED, END = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
)


class Tour:
    """Runs, tells and checks. `transcripts` are the examples of the documentation, by their names."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.console = Console(bed.programs, bed.openrc("Site1", "demo"))
        self.failures: list[str] = []
        self.transcripts: dict[str, str] = {}
        self._began = time.monotonic()

    def title(self, text: str) -> None:
        print(f"\n{BOLD}{text}{END}  {DIM}[{time.monotonic() - self._began:.0f} s]{END}", flush=True)

    def say(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"   {line}", flush=True)

    def check(self, what: str, holds: bool, why: object = "") -> None:
        print(f"   {GREEN}✓{END} {what}" if holds else f"   {RED}✗ {what}{END} {why}", flush=True)
        if not holds:
            self.failures.append(what)

    def openstack(self, arguments: str, name: str = "", at: Console | None = None, **environment: str) -> Done:
        """Runs the client, at Site1 unless told otherwise; `name` is that of its example in the documentation."""
        return self.told((at or self.console).run(f"openstack {arguments}", **environment), name)

    def lab(self, arguments: str, name: str = "") -> Done:
        """Runs a command of the lab."""
        return self.cheops(f"lab {arguments}", name)

    def cheops(self, arguments: str, name: str = "") -> Done:
        """Runs a command of Cheops, as in the folder of the lab."""
        return self.told(self.console.run(f"cheops {arguments}", CHEOPS_LAB=str(self.bed.lab.folder)), name)

    def told(self, done: Done, name: str = "") -> Done:
        """Shows what was run; `name` as above."""
        self.say(transcript(done))
        if name:
            self.transcripts[name] = self.transcripts.get(name, "") + transcript(done)
        return done


def until(holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s there was still not: {what}")
        time.sleep(0.1)
