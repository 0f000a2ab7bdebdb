"""A request as it goes into the log: its ids are rids, secrets and revisions stay out, what it makes has a name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cheops.applications import Application
from cheops.applications.concern import Concern
from cheops.applications.credentials import recordable, refuse_secrets, secret_headers
from cheops.applications.fields import touched
from cheops.applications.replies import chosen_in, identity_in, key_in, with_id, without_revisions
from cheops.applications.rids import new_rid, rid_of
from cheops.applications.translate import in_rids, values_in
from cheops.errors import BadRequest, NotThere
from cheops.model import Request
from cheops.reconcile.book import Book
from cheops.reconcile.ledger import Draft, Ledger
from cheops.record.operation import Birth, Body, Kind, Operation, Recorded
from cheops.record.resource import Summary

ROLLOUT = b"cheops-rollout"


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A request as it goes into the log: what it makes (or the resource it is for), and its parts."""

    rid: str
    kind: Kind
    concern: Concern
    recorded: Recorded
    birth: Birth | None
    touches: frozenset[str] | None
    refers: tuple[str, ...]
    shares: Mapping[str, str]
    placement: tuple[str, ...]
    prime: str = ""
    in_turn: bool = False


class Drafter:
    """Drafts of the site's ledger. `digits` gives random hexadecimal digits."""

    def __init__(self, ledger: Ledger, application: Callable[[], Application], digits: Callable[[int], str]) -> None:
        self._ledger, self._application, self._digits = ledger, application, digits

    @property
    def _here(self) -> str:
        return self._ledger.here

    async def written(
        self,
        request: Request,
        concern: Concern,
        body: Body | None,
        placement: tuple[str, ...],
        shares: Mapping[str, str],
        prime: str = "",
    ) -> Written:
        """The request as it goes into the log: of a resource that spans its sites if it has a `prime`."""
        application, rules = self._application(), concern.rules
        media_type = _header(request, b"content-type")
        inline = body.inline if body else None
        chosen = concern.id
        if inline is not None:
            inline = without_revisions(inline, rules)
            if concern.kind is Kind.CREATE and rules and rules.client_id == "accepted":
                chosen = chosen_in(inline, rules) or self._uuid()
                inline = with_id(inline, rules, chosen)
        target = request.target.decode("latin1")
        refuse_secrets(target)
        headers = recordable(request.headers, request.service, application)
        named = await self._ledger.find(values_in(target, media_type, inline, headers))
        cast = in_rids(target, headers, inline, named, self._here, request.service, application)
        if cast.unknown:
            raise BadRequest(
                f"the request names {', '.join(cast.unknown)}, and {self._here} knows no resource of this name",
                hint="Name a resource that is held here, or send the request to a site that holds it.",
            )
        recorded = Recorded(
            method=request.method,
            target=cast.target,
            headers=cast.headers,
            body=_body(body, cast.body),
            secret=bool(secret_headers(request.headers, request.service, application)),
        )
        assert concern.kind, "only writes are written"
        identity, name = chosen, ""
        if inline is not None and concern.kind is Kind.CREATE:
            identity = chosen or identity_in(inline, rules)
            name = next(iter(key_in(inline, rules).values()), "")
        rid, birth = self._birth(request.service, concern, chosen, identity, name)
        return Written(
            rid=rid,
            kind=concern.kind,
            concern=concern,
            recorded=recorded,
            birth=birth,
            touches=touched(inline, rules) if concern.kind is Kind.MERGE and inline is not None else None,
            refers=tuple(other for other in cast.refers if other != rid),
            shares=shares,
            placement=placement,
            prime=prime,
            in_turn=in_turn_of(request),
        )

    def _birth(self, service: str, concern: Concern, chosen: str, identity: str, name: str) -> tuple[str, Birth | None]:
        if concern.summary and concern.kind is not Kind.CREATE:
            known = concern.summary
            return known.rid, birth_of(
                known
            ) if concern.kind is Kind.REPLACE and known.chosen and not concern.facet else None
        rid = rid_of(service, concern.type, concern.collection, identity) if identity else new_rid(self._digits)
        birth = Birth(
            service=service,
            type=concern.type,
            collection=concern.collection,
            chosen=chosen,
            name=name or chosen,
            parent=concern.parent.rid if concern.parent else "",
        )
        return rid, birth

    def operation(self, written: Written, book: Book | None, draft: Draft) -> Operation:
        there = book is not None and book.log.birth is not None and not book.log.gone
        births = written.kind is Kind.CREATE or (written.kind is Kind.REPLACE and not there)
        if not there and (not births or written.birth is None):
            raise NotThere(
                "the resource isn't there any more", hint="It was deleted; `cheops resources` lists what is."
            )
        concern = written.concern
        return Operation(
            rid=written.rid,
            author=draft.author,
            n=draft.n,
            stamp=draft.stamp,
            after=draft.after,
            kind=written.kind,
            facet=concern.facet,
            touches=written.touches,
            repeats=concern.repeats,
            commutes=concern.commutes,
            alone=concern.alone,
            request=written.recorded,
            birth=written.birth if births else None,
            placement=written.placement if births else (),
            prime=written.prime if births else "",
            in_turn=written.in_turn,
            refers=written.refers,
            shares=written.shares,
        )

    def _uuid(self) -> str:
        digits = self._digits(32)
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def birth_of(known: Summary) -> Birth:
    """What an operation says that makes a resource anew."""
    return Birth(
        service=known.service,
        type=known.type,
        collection=known.collection,
        chosen=known.chosen,
        name=known.name,
        parent=known.parent,
    )


def placed(rid: str, sites: Sequence[str], draft: Draft, *, prime: str = "", leave: str = "keep") -> Operation:
    """That a resource is held by these sites from now on."""
    return Operation(
        rid=rid,
        author=draft.author,
        n=draft.n,
        stamp=draft.stamp,
        after=draft.after,
        kind=Kind.PLACE,
        placement=tuple(dict.fromkeys(sites)),
        leave=leave,
        prime=prime,
    )


def in_turn_of(request: Request) -> bool:
    """Whether one site is to do it after the other. Raises BadRequest."""
    said = [value.decode("latin1").strip().lower() for value in request.values(ROLLOUT)]
    if said not in ([], ["in-turn"]):
        raise BadRequest("the header Cheops-Rollout has one value, 'in-turn'", hint="Leave it out to do it at once.")
    return bool(said)


def _header(request: Request, name: bytes) -> str:
    return next((value.decode("latin1") for value in request.values(name)), "")


def _body(body: Body | None, inline: bytes | None) -> Body | None:
    if body is None or body.inline is None or inline is None:
        return body
    return Body(inline=inline, size=len(inline))
