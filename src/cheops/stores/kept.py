"""Scopes too long for a request id, one file each, named by the UUID. Forgotten after a day."""

import os
import re
from collections.abc import Callable
from pathlib import Path

KEPT_SECONDS = 24 * 3600
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
Clock = Callable[[], float]
"""Seconds since the epoch."""


class KeptFiles:
    """Keeps scopes in a folder; a file is there whole or not at all."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, uuid: str, text: str) -> None:
        """Raises OSError when the disk doesn't take it, and ValueError when it isn't a UUID."""
        path = self._path(uuid)
        half = path.with_suffix(".half")
        with half.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.utime(half, (self._clock(), self._clock()))
            os.fsync(file.fileno())
        half.replace(path)
        sync_folder(self._folder)

    def recall(self, uuid: str) -> str | None:
        """The text, or None when it isn't kept (any more)."""
        try:
            path = self._path(uuid)
            return path.read_bytes().decode() if self._is_young(path) else None
        except (FileNotFoundError, ValueError):
            return None

    def forget_old(self) -> None:
        """Deletes what is older than a day."""
        for path in self._folder.iterdir():
            if not self._is_young(path):
                path.unlink(missing_ok=True)

    def _is_young(self, path: Path) -> bool:
        return self._clock() - path.stat().st_mtime < KEPT_SECONDS

    def _path(self, uuid: str) -> Path:
        if not _UUID.fullmatch(uuid):
            raise ValueError(f"not a UUID: {uuid!r}")
        return self._folder / uuid


def sync_folder(folder: Path) -> None:
    """Until then a file's new name may be lost with the machine's power (fsync(2))."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class KeptInMemory:
    """The twin of KeptFiles that forgets with its process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._texts: dict[str, tuple[float, str]] = {}

    def keep(self, uuid: str, text: str) -> None:
        if not _UUID.fullmatch(uuid):
            raise ValueError(f"not a UUID: {uuid!r}")
        self._texts[uuid] = (self._clock(), text)

    def recall(self, uuid: str) -> str | None:
        since, text = self._texts.get(uuid, (0.0, None))
        return text if self._clock() - since < KEPT_SECONDS else None

    def forget_old(self) -> None:
        young = {uuid: entry for uuid, entry in self._texts.items() if self._clock() - entry[0] < KEPT_SECONDS}
        self._texts = young
