"""What a creation refers to and some of its sites lack: a server that names an image which isn't there.

`Cheops-Dependencies` says what is done then: `refuse`, the default, says exactly what is missing and what can be done;
`share` has the sites that lack something use the service of one that has it, for this request's workflow; `replicate`
first makes it on them. What a service holds is asked with the caller's own credentials.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cheops.applications import Application, Resource
from cheops.applications.fields import body_of_one, fields_at
from cheops.applications.paths import encoded, places_of
from cheops.errors import BadRequest, LacksReference, SiteUnreachable
from cheops.model import Headers, Request
from cheops.ports import Transport
from cheops.reconcile.ledger import Ledger
from cheops.record.resource import Summary

DEPENDENCIES = b"cheops-dependencies"
MODES = ("refuse", "share", "replicate")
ASK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A resource that a body names: by its service and type, and by the id that stands there."""

    service: str
    type: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lack:
    """What `missing` sites lack, and `there` have; `summary`, if it is replicated."""

    reference: Reference
    there: tuple[str, ...]
    missing: tuple[str, ...]
    summary: Summary | None = None

    def sentence(self) -> str:
        name = f"{self.reference.service}/{self.reference.type} {self.reference.value}"
        there = " & ".join(self.there) or "nowhere"
        return f"{' and '.join(self.missing)} lacks {name}, which is at {there}"


def references_in(body: bytes | None, rules: Resource | None, service: str) -> list[Reference]:
    """What the description says that a body refers to."""
    if body is None or rules is None or not rules.refers:
        return []
    value = body_of_one(body, rules)
    found: dict[tuple[str, str, str], None] = {}
    for field, target in rules.refers.items():
        owner, _, kind = target.rpartition("/")
        for named in fields_at(value, field):
            if isinstance(named, str) and named:
                found[owner or service, kind, named] = None
    return [Reference(service=where, type=kind, value=named) for where, kind, named in found]


def mode_of(request: Request) -> str:
    """What the caller wants. Raises BadRequest."""
    said = [value.decode("latin1").strip().lower() for value in request.values(DEPENDENCIES)] or ["refuse"]
    if said[0] not in MODES or len(said) > 1:
        raise BadRequest(f"Cheops-Dependencies: {', '.join(said)} isn't one of {', '.join(MODES)}")
    return said[0]


class Dependencies:
    """Finds what sites lack. `replicate` makes a resource on further sites, and returns when it is there."""

    def __init__(
        self,
        ledger: Ledger,
        transport: Transport,
        application: Callable[[], Application],
        replicate: Callable[[Lack, Request], Awaitable[None]],
    ) -> None:
        self._ledger, self._transport, self._application = ledger, transport, application
        self._replicate = replicate

    async def lacks(
        self, request: Request, body: bytes | None, rules: Resource | None, sites: Sequence[str], secrets: Headers
    ) -> list[Lack]:
        """What of that which a body refers to some of these sites lack."""
        references = references_in(body, rules, request.service)
        found = await asyncio.gather(*(self._lack(reference, sites, secrets) for reference in references))
        return [lack for lack in found if lack]

    async def _lack(self, reference: Reference, sites: Sequence[str], secrets: Headers) -> Lack | None:
        here = self._ledger.here
        named = await self._ledger.find([reference.value], reference.service)
        known = [
            n.summary for n in named if n.summary.type == reference.type and n.site in (here, "") and not n.summary.gone
        ]
        if known:
            missing = tuple(site for site in sites if site not in known[0].placement)
            return (
                Lack(reference=reference, there=known[0].placement, missing=missing, summary=known[0])
                if missing
                else None
            )
        item = self._item(reference)
        if item is None:
            return None
        there = await asyncio.gather(*(self._has(site, reference.service, item, secrets) for site in sites))
        missing = tuple(site for site, has in zip(sites, there, strict=True) if has is False)
        having = tuple(site for site, has in zip(sites, there, strict=True) if has)
        return Lack(reference=reference, there=having, missing=missing) if missing and having else None

    def _item(self, reference: Reference) -> str | None:
        """The path of what is referred to; None if that isn't described, or needs more than its id."""
        described = self._application().services.get(reference.service)
        rules = described.resources.get(reference.type) if described else None
        if rules is None or set(places_of(rules.item_path)) != {"id"}:
            return None
        return rules.item_path.replace("{id}", encoded(reference.value))

    async def _has(self, site: str, service: str, item: str, secrets: Headers) -> bool | None:
        """Whether a site has it; None if nobody can say."""
        request = Request(service=service, method="GET", target=item.encode("latin1"), headers=secrets)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reply = await self._transport.send(request, site=site)
                await reply.body.aclose()
        except (SiteUnreachable, TimeoutError):
            return None
        if any(name == b"cheops-executed" for name, _ in reply.headers):
            return None
        return {404: False}.get(reply.status, True if reply.status < 300 else None)

    async def settle(self, lacks: Sequence[Lack], request: Request) -> dict[str, str]:
        """What is done about what is missing: the locations that single sites are to use, as {"Site2/image": "Site1"}.

        Raises LacksReference, BadRequest, and what replicating raises.
        """
        mode = mode_of(request)
        if not lacks:
            return {}
        if mode == "refuse":
            raise LacksReference(
                f"{'; '.join(lack.sentence() for lack in lacks)}; nothing was sent anywhere",
                hint="Send it with 'Cheops-Dependencies: share', so that the sites that lack it use the service of one "
                "that has it, or with 'Cheops-Dependencies: replicate', so that it is made there first.",
                lacks=[{"sites": list(lack.missing), "of": lack.reference.value} for lack in lacks],
            )
        if mode == "share":
            return {f"{site}/{lack.reference.service}": lack.there[0] for lack in lacks for site in lack.missing}
        for lack in lacks:
            await self._replicate(lack, request)
        return {}
