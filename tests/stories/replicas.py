"""Stories of replicated resources: commands in, what each site did out. They are the *.txt files of replication/.

Paragraphs are those of story.py. Sites have one service, `notes`, that keeps documents (blackbox.py); time is the
story's own. The commands:

    sites NAME…
    ask SITE METHOD PATH [JSON] [HEADER=VALUE…]      a client asks at the front of a site: what it hears
    plan SITE METHOD PATH [JSON] [HEADER=VALUE…]     the same with Cheops-Plan: only: what would be sent where
    box SITE                                         the documents that the service there keeps
    executed SITE                                    what it has executed since this was told last
    show SITE RID                                    what that site knows of a resource
    conflicts SITE RID
    place SITE RID SITE… [keep|delete]               `cheops resource scope`: from now on it is held by these
    verify SITE RID · repair SITE RID                the replicas are compared, or made as the log says
    tamper SITE PATH JSON · forget SITE PATH         behind our back, the service there gets this, or loses it
    spoil SITE PATH                                  the bytes there are others
    cut SITE SITE · heal · wait SECONDS · settle     settle: until every holder is through with everything
    kill SITE · start SITE · wipe SITE               the agent there; wipe: its disk is lost while it doesn't run
    down SITE · mute SITE · up SITE                  the service there
    answer SITE STATUS [TIMES]                       it refuses the next requests, and executes nothing
    lose SITE [TIMES]                                it executes them, and its answers are lost
    unable SITE STATUS [TIMES]                       it answers the next reads so
    without SITE FIELD                               it is of a version that doesn't know a field, and drops it
    swallow SITE SITE · unanswered SITE SITE         agents hear nothing from each other, or no answer
    kept SITE SITE                                   how much the first one's log keeps for the other
    remove SITE                                      `cheops site remove --force`, and its machine is gone
    wants SITE TOKEN · own SITE TOKEN                Authorization that it asks for; what the site's settings have
    clock SITE SECONDS                               its clock is so much ahead

Ids are told as they were met: rid-1, id-1; commands may name them so.
"""

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable

import virtual
from blackbox import reply
from cheops.errors import CheopsError, SiteUnreachable
from cheops.model import Reply, Request
from cheops.reconcile.book import Book
from cheops.reconcile.drift import Verified, name_of_field
from cheops.reconcile.operating import Operator
from cheops.reconcile.showing import name_of
from cheops.record.operation import Outcome, State
from replicated import NOTES, Answer, World
from stories.story import Paragraph, StoryError, paragraphs
from values import application

_RID = re.compile(r"c4e1[0-9a-f]{4}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID = re.compile(r"\b[0-9a-f]{32}\b")


class Telling:
    """A story while it happens."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._world: World | None = None
        self._names: dict[str, str] = {}
        self._seen: dict[str, int] = {}
        self._told: list[str] = []
        self._given: tuple[str, ...] = ()
        self._described = NOTES
        self._disturbed: set[str] = set()

    async def happen(self, paragraph: Paragraph) -> tuple[str, ...]:
        """Carries out a command and tells what happened. Raises StoryError."""
        self._told, self._given = [], paragraph.given
        if paragraph.command:
            word, *arguments = shlex.split(self._meant(paragraph.command))
            try:
                await getattr(self, f"_{word}")(*arguments)
            except (AttributeError, TypeError, ValueError, KeyError) as error:
                raise StoryError(f"line {paragraph.line}: {paragraph.command}: {error}") from error
        return tuple(self._readable(line) for line in self._told)

    async def end(self) -> None:
        if self._world:
            await self._world.__aexit__()

    @property
    def world(self) -> World:
        if self._world is None:
            raise ValueError("the story begins with its sites")
        return self._world

    def _meant(self, command: str) -> str:
        known = {name: value for value, name in self._names.items()}
        return re.sub(r"\b(rid|id)-\d+\b", lambda found: known.get(found[0], found[0]), command)

    def _readable(self, line: str) -> str:
        line = _RID.sub(lambda found: self._name("rid", found[0]), line)
        return _ID.sub(lambda found: self._name("id", found[0]), line)

    def _name(self, kind: str, value: str) -> str:
        count = sum(name.startswith(f"{kind}-") for name in self._names.values())
        return self._names.setdefault(value, f"{kind}-{count + 1}")

    # The commands

    async def _application(self) -> None:
        self._described = application("\n".join(self._given))

    async def _sites(self, *names: str) -> None:
        self._world = World(*names, described=self._described, seed=len(self._seed))
        await self._world.__aenter__()

    async def _plan(self, site: str, *words: str) -> None:
        plan = (await self._answered(site, *words, "Cheops-Plan=only")).body
        if "collaboration" not in plan:
            return self._told.append(plan["detail"])
        self._told.append(plan["collaboration"])
        for step in plan["steps"]:
            asked = step["request"]
            self._told.append(f"{step['site']}: {asked['method']} {asked['target']} {asked['body'] or ''}".rstrip())
        return self._told.append(f"if lost: {plan['if_lost']}")

    async def _answered(self, site: str, method: str, path: str, *rest: str) -> Answer:
        document = json.loads(rest[0]) if rest and rest[0].startswith(("{", "[")) else None
        headers = dict(word.split("=", 1) for word in rest[1 if document is not None else 0 :])
        return await self.world[site].ask(
            method, path, document, **{k.replace("-", "_"): v for k, v in headers.items()}
        )

    async def _ask(self, *words: str) -> None:
        answer = await self._answered(*words)
        said = answer.body.get("detail", answer.body) if isinstance(answer.body, dict) else answer.body
        text = said if isinstance(said, str) else json.dumps(said) if said or said == [] else ""
        self._told.append(f"{answer.status} {text}".rstrip())
        if isinstance(answer.body, dict) and answer.body.get("hint"):
            self._told.append(f"hint: {answer.body['hint']}")
        for name in ("cheops-resource", "cheops-outcome"):
            if name in answer.headers:
                self._told.append(f"[{name}: {answer.headers[name]}]")

    async def _box(self, site: str) -> None:
        box = self.world[site].box
        self._told += [f"{path} {json.dumps(document)}" for path, document in sorted(box.documents.items())]
        self._told += [f"{path} sha256={digest[:8]}" for path, digest in sorted(box.files.items())]
        if not box.documents:
            self._told.append("nothing")

    async def _executed(self, site: str) -> None:
        executed = self.world[site].box.executed
        self._told += executed[self._seen.get(site, 0) :] or ["nothing"]
        self._seen[site] = len(executed)

    async def _show(self, site: str, rid: str) -> None:
        book = await self._book(site, rid)
        self._told.append(f"held by {' & '.join(book.holders)}{', deleted' if book.log.gone else ''}")
        for op in book.log.order:
            outcomes = ", ".join(
                f"{name}: {_outcome(outcome)}" for name in book.holders if (outcome := book.outcome(op.dot, name))
            )
            void = " (superseded)" if op.dot in book.log.superseded else ""
            self._told.append(f"{op.kind.value} of {op.site}{void} — {outcomes}")

    async def _conflicts(self, site: str, rid: str) -> None:
        book = await self._book(site, rid)
        ops = book.log.operations
        for conflict in book.log.conflicts:
            winner, loser = ops[conflict.winner], ops[conflict.loser]
            fields = conflict.fields if isinstance(conflict.fields, str) else ", ".join(sorted(conflict.fields))
            self._told.append(
                f"{winner.kind.value} of {winner.site} wins over {loser.kind.value} of {loser.site}: {fields}"
            )
        if not book.log.conflicts:
            self._told.append("none")

    async def _verify(self, site: str, rid: str) -> None:
        self._verified(await self._operator(site).verify(rid, 10))

    async def _repair(self, site: str, rid: str) -> None:
        found = await self._operator(site).repair(rid, 10)
        self._told += [f"{each.site}: {'' if each.done else 'no: '}{each.what}" for each in found.told]
        self._verified(found.verified)

    def _verified(self, found: Verified) -> None:
        self._told.append(found.state)
        self._told += [f"{each.site}: {each.state}{each.why and f', {each.why}'}" for each in found.sites]
        for each in found.fields:
            says = f", the log says {json.dumps(each.says)}" if each.operation else ", the log says nothing"
            self._told.append(f"{name_of_field(each)}: {json.dumps(each.values)}{says}")

    def _operator(self, site: str) -> Operator:
        parts = self.world[site].parts
        if parts is None:
            raise ValueError(f"{site} doesn't run")
        return parts.operator

    async def _tamper(self, site: str, path: str, document: str) -> None:
        self.world[site].box.documents.setdefault(path, {}).update(json.loads(document))

    async def _forget(self, site: str, path: str) -> None:
        self.world[site].box.forget(path)

    async def _spoil(self, site: str, path: str) -> None:
        self.world[site].box.contents[path] = b"spoilt"

    async def _book(self, site: str, rid: str) -> Book:
        parts = self.world[site].parts
        book = await parts.ledger.book(rid) if parts else None
        if book is None:
            raise ValueError(f"{site} knows nothing of it")
        return book

    async def _prime(self, site: str, rid: str, prime: str) -> None:
        """Another site is to be the prime."""
        book = await self._book(site, rid)
        await self._commanded(self._operator(site).place(rid, book.holders, prime=prime))

    async def _commanded(self, work: Awaitable[str]) -> None:
        try:
            await work
        except CheopsError as error:
            self._told += [f"{error.code}: {error.detail}", *([f"hint: {error.hint}"] if error.hint else [])]

    async def _place(self, site: str, rid: str, *sites: str) -> None:
        leave = sites[-1] if sites[-1] in ("keep", "delete") else "keep"
        wanted = tuple(site for site in sites if site not in ("keep", "delete"))
        parts = self.world[site].parts
        assert parts, "it runs"
        await self._commanded(parts.operator.place(rid, wanted, leave))

    async def _why(self, site: str, rid: str) -> None:
        """How far a site is with the last operation."""
        book = await self._book(site, rid)
        outcome = book.outcome(book.log.order[-1].dot, site)
        self._told.append(f"{_outcome(outcome)}: {outcome.why}" if outcome and outcome.why else "nothing is waited for")

    async def _retry(self, site: str, rid: str) -> None:
        """The last operation, wherever it failed."""
        book = await self._book(site, rid)
        told = await self._operator(site).settle("retry", rid, name_of(book.log.order[-1].dot))
        self._told += [f"{each.site}: {each.what}" for each in told]

    async def _cut(self, one: str, other: str) -> None:
        self.world.cut(one, other)

    async def _heal(self) -> None:
        self._disturbed.clear()
        self.world.heal()

    async def _wait(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))

    async def _settle(self) -> None:
        await self.world.settled()

    async def _kill(self, site: str) -> None:
        await self.world[site].kill()

    async def _start(self, site: str) -> None:
        await self.world[site].start()

    async def _wipe(self, site: str) -> None:
        self.world[site].new_store()

    async def _down(self, site: str) -> None:
        self.world[site].box.down = True

    async def _mute(self, site: str) -> None:
        self.world[site].box.mute = True

    async def _up(self, site: str) -> None:
        self.world[site].box.down = self.world[site].box.mute = False

    async def _answer(self, site: str, status: str, times: str = "1") -> None:
        left = iter(range(int(times)))

        def refuse(request: Request) -> Reply | None:
            writes = request.method != "GET" and next(left, None) is not None
            return reply(int(status), {"error": f"{site} says {status}"}) if writes else None

        self.world[site].box.before = refuse

    async def _lose(self, site: str, times: str = "1") -> None:
        left = iter(range(int(times)))

        def lose(request: Request) -> Reply | None:
            writes = request.method != "GET" and next(left, None) is not None
            return reply(503, {"detail": "broken off"}, (b"cheops-executed", b"unknown")) if writes else None

        self.world[site].box.after = lose

    async def _unable(self, site: str, status: str, times: str = "1") -> None:
        left = iter(range(int(times)))

        def fail(request: Request) -> Reply | None:
            reads = request.method == "GET" and next(left, None) is not None
            return reply(int(status), {"error": f"{site} says {status}"}) if reads else None

        self.world[site].box.before = fail

    async def _without(self, site: str, field: str) -> None:
        box = self.world[site].box

        def drop(_: Request) -> None:
            for document in box.documents.values():
                document.pop(field, None)

        box.after = drop

    async def _swallow(self, one: str, other: str) -> None:
        self._disturb(one, other, arrives=False)
        self._disturb(other, one, arrives=False)

    async def _unanswered(self, one: str, other: str) -> None:
        self._disturb(one, other, arrives=True)
        self._disturb(other, one, arrives=True)

    def _disturb(self, sender: str, to: str, *, arrives: bool) -> None:
        undisturbed = self.world.network.agents[to]

        async def agent(asking: str, path: str, body: bytes | None) -> bytes:
            if asking != sender or sender not in self._disturbed:
                return await undisturbed(asking, path, body)
            if arrives:
                await undisturbed(asking, path, body)
            raise SiteUnreachable(f"the agent of {to} gives no answer", site=to)

        self._disturbed.add(sender)
        self.world.network.agents[to] = agent

    async def _kept(self, site: str, peer: str) -> None:
        kept = await self.world[site].store.feed(peer, 0, 1000)
        self._told.append(str(len(kept.items)) if kept.items else "nothing")

    async def _remove(self, site: str) -> None:
        for other in [other for other in self.world.sites if other != site]:
            self.world.network.cut(site, other)
            self.world[other].peers.states.pop(site)
        await self.world[site].kill()
        del self.world.sites[site]

    async def _wants(self, site: str, token: str) -> None:
        self.world[site].box.wants = token.encode()

    async def _own(self, site: str, token: str) -> None:
        self.world[site].credentials.of["notes"] = ((b"authorization", token.encode()),)

    async def _clock(self, site: str, seconds: str) -> None:
        self.world[site].clock_ahead = float(seconds)


def _outcome(outcome: Outcome) -> str:
    match outcome.state:
        case State.DONE | State.REFUSED:
            told = f"{outcome.state.value} ({outcome.status})" if outcome.status else outcome.state.value
        case _:
            told = outcome.state.value
    return f"{told}, {outcome.code}" if outcome.code else told


def retold(text: str, name: str = "") -> str:
    """The story as it happens. Raises StoryError."""

    async def telling() -> str:
        story = Telling(name)
        try:
            told = []
            for paragraph in paragraphs(text):
                happened = await story.happen(paragraph)
                lines = [*paragraph.prose, paragraph.command, *(f"  {line}" for line in paragraph.given), *happened]
                told.append("\n".join(filter(None, lines)))
            return "\n\n".join(told) + "\n"
        finally:
            await story.end()

    return virtual.run(telling())
