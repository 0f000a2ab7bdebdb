"""The steps of a plan."""

from dataclasses import dataclass

from cheops.model import Resolved, RoundTrip


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward:
    """Send the request to its service on `site`, with the scope as it is resolved then; the reply is the reply."""

    service: str
    site: str
    resolved: Resolved


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstAble:
    """Send it to the first of the choices that can; go on to the next only if nothing can have been executed."""

    choices: tuple[Forward, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Each:
    """Send it, a read, to each of the sites; the reply is what they hold together, each thing once."""

    choices: tuple[Forward, ...]


Step = Forward | FirstAble | Each


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    """A site that is near enough for an `around`."""

    site: str
    round_trip: RoundTrip


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is done with a request. `kind` is the collaboration; `near` are the sites that its arounds found."""

    step: Step
    kind: str = "sharing"
    near: tuple[Near, ...] = ()

    @property
    def forwards(self) -> tuple[Forward, ...]:
        """All that may be sent, in order."""
        return (self.step,) if isinstance(self.step, Forward) else self.step.choices
