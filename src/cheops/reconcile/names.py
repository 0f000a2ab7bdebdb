"""All that names a resource here, as long as it fits into memory: most requests name nothing that is replicated."""

from collections.abc import Collection

from cheops.ports import Dossier

MOST_NAMES = 300_000  # some 30 MB


class Names:
    """The names of a store; None: there are too many, or others write to it too, so anything may be one."""

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = None if names is None else set(names)

    def __contains__(self, value: str) -> bool:
        return self._names is None or value in self._names

    def note(self, dossier: Dossier) -> None:
        """Those of a resource that was just written: its rid, the chosen id, each site's own."""
        if self._names is None:
            return
        chosen, local = dossier.summary.chosen, [outcome.local_id for outcome in dossier.outcomes]
        self._names.update(filter(None, (dossier.summary.rid, chosen, *local)))
        if len(self._names) > MOST_NAMES:
            self._names = None
