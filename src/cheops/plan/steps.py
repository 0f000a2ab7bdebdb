"""The steps of a plan."""

from dataclasses import dataclass

from cheops.model import Resolved


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward:
    """Send the request as it is to its service on `site`; the reply is the reply."""

    service: str
    site: str


Step = Forward


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Steps in their order, and the resolved scope that follows the request into each of them."""

    steps: tuple[Step, ...]
    resolved: Resolved
