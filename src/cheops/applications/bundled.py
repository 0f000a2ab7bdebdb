"""The descriptions that come with Cheops; settings name them without folder or ending: `application: openstack`."""

from pathlib import Path

from cheops.errors import BadSettings

_HERE = Path(__file__).parent


def bundled() -> dict[str, Path]:
    """The file of each description that comes with Cheops."""
    return {path.stem: path for path in sorted(_HERE.glob("*.yaml"))}


def is_bundled(name: str) -> bool:
    """Whether it is a bare name, and so no path."""
    return "/" not in name and not name.endswith((".yaml", ".yml"))


def find_application(name: str, folder: Path) -> Path:
    """The file of a description: a bundled one by name, one's own by its path from `folder`. Raises BadSettings."""
    if not is_bundled(name):
        return folder / name
    known = bundled()
    if name not in known:
        raise BadSettings(
            f"no description named '{name}' comes with Cheops; these do: {', '.join(known)}",
            hint=f"A file of your own is named with its ending or its folder: {name}.yaml or ./{name}",
        )
    return known[name]
