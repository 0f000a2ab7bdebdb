"""What a list says of a resource. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A resource, as it is listed; `collection`, `chosen`, `parent` as in its Birth. `gone`: it was deleted, everywhere
    it was.
    """

    rid: str
    service: str
    type: str
    collection: str
    chosen: str = ""
    name: str = ""
    parent: str = ""
    placement: tuple[str, ...] = ()
    refers: tuple[str, ...] = ()
    gone: bool = False
