"""A replicated resource, as it is listed and as it is found by what names it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A resource, as it is listed; `collection`, `chosen`, `parent` as in its Birth. `gone`: it was deleted, everywhere
    it was. `prime`: it spans the sites of its placement, and this one's part counts where nothing else is said.
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
    prime: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """That `value` names a resource: at `site`, or everywhere if that is "" (a rid, or an id that was chosen)."""

    value: str
    site: str
    summary: Summary
