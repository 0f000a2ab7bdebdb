"""Python imports this at its start, where PYTHONPATH names this folder: in the agents of a lab with faults it sets the
clock apart, has messages sent twice, and breaks what is to be broken on purpose. The product has no hook for that.
"""

import os
import sys
import traceback
from pathlib import Path

FOLDER, PRELOAD = "CHEOPS_FAULTS_FOLDER", "LD_PRELOAD"


def begin(folder: Path, site: str) -> None:
    clock = folder / "clock" / site
    if clock.exists() and PRELOAD not in os.environ:
        set_apart(clock)
    os.environ.pop(PRELOAD, None)  # the Envoy that the agent starts has timers that stand still with it
    import broken

    broken.begin(folder, site)


def set_apart(clock: Path) -> None:
    """Starts this process anew, with the clock that a file tells of, and can be changed there at any time."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    faked = {
        PRELOAD: str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }
    os.execve(sys.executable, sys.orig_argv, os.environ | faked)


if FOLDER in os.environ and sys.orig_argv[1:4] == ["-m", "cheops", "agent"]:
    try:
        begin(Path(os.environ[FOLDER]), Path(sys.orig_argv[-1]).parent.name)
    except BaseException:
        traceback.print_exc()  # Python itself would go on, and the faults be missing
        os._exit(1)
