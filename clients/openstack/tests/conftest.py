"""The stock client as a process, with nothing of this machine's settings, and a cloud for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud import cloud as new_cloud
from server import Server, serving

CLIENT = Path(sys.executable).with_name("openstack")
SECONDS = 60  # a start takes one, on a machine with nothing else to do


@dataclass(frozen=True)
class Openstack:
    """Runs the client in a folder of its own, which is its HOME too."""

    folder: Path

    def __call__(
        self, *arguments: str, environment: dict[str, str], typed: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [CLIENT, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "COLUMNS": "200", **environment},
            cwd=self.folder,
            input=typed,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )


@pytest.fixture
def openstack(tmp_path: Path) -> Openstack:
    return Openstack(tmp_path)


@pytest.fixture
def cloud() -> Iterator[Server]:
    with serving(new_cloud()) as server:
        yield server
