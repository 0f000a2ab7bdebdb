"""A replicated resource, as it is listed and as it is found by what names it."""

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """That `value` names a resource: at `site`, or everywhere if that is "" (a rid, or an id that was chosen)."""

    value: str
    site: str
    summary: Summary
