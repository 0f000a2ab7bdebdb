"""Stories of several sites: commands in, what each site did out. Stories are the *.txt files beside this one.

A story is made of paragraphs. Lines that begin with `#` are prose; then comes a command, then what it is given,
indented; the rest is what happened. The commands:

    application              the description of the application, as in application.yaml
    sites NAME…              the sites, numbered from 1; each has an agent, and all services
    service NAME [passes HEADER…]      what a service does, and which headers it passes on to the services it calls
      calls SERVICE METHOD PATH        at the front of its own site, as any service does
      answers STATUS
    show HEADER…             from now on, what stands in these headers is told too
    send SITE SERVICE METHOD PATH [HEADER=VALUE…]      a client asks at the front of a site
    together                 several of them at once
      send …
    cut SITE SITE · heal SITE SITE · wait HOURS
    finds SITE PEER up|suspect|down     what a site thinks of a peer
    far SITE [SITE=MS…]                 the round-trip times that a site has measured
    stop SITE SERVICE                   nothing answers there, and Envoy says so
    lose SITE SERVICE                   it executes what it gets, and breaks off before it answers
    busy SITE SERVICE                   it answers 503

In a value, $id is the request id that was sent last. What happened is told as

    SITE/SERVICE METHOD PATH [from SITE] [HEADER: VALUE]…      a request that arrived, and where it was made
    STATUS TEXT                                                what the client got
    hint: TEXT
    [HEADER: VALUE]                                            what the answer says of the sites, if it does

Every request goes through its site's Pipeline, also those that Envoy would serve alone: a property holds the two
together.
"""

import asyncio
import json
import shlex
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from urllib.parse import unquote

from cheops.applications import Application
from cheops.carry import read_carried
from cheops.carry.request_id import Bindings, KeptBy
from cheops.documents import parse_document
from cheops.errors import CheopsError
from cheops.execute import OUTCOME
from cheops.model import Distances, Headers, PeerState, Reply, Request, RoundTrip
from cheops.pipeline import AROUND, Pipeline
from cheops.sites.memory import PeersInMemory
from cheops.stores.kept import KeptInMemory
from cheops.transports.memory import Handler, MemoryTransport, Network
from values import headers_of, reply, site_of, view_of, whole


class StoryError(Exception):
    """A story that can't be read; the message begins with the line."""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """prose, the command as it is written, what it is given (without the indent), and what happened."""

    line: int
    prose: tuple[str, ...]
    command: str = ""
    given: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [*self.prose, self.command, *(f"  {line}" for line in self.given), *self.told]
        return "\n".join(filter(None, lines))


def paragraphs(text: str) -> Iterator[Paragraph]:
    """The paragraphs of a story. Raises StoryError."""
    lines: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line:
            lines.append(line)
        elif lines:
            yield _paragraph(lines, number - len(lines))
            lines = []


def _paragraph(lines: list[str], first: int) -> Paragraph:
    prose = tuple(_while(lines, lambda line: line.startswith("#")))
    command, *rest = lines[len(prose) :] or [""]
    given = _while(rest, lambda line: line.startswith("  "))
    told = tuple(rest[len(given) :])
    if command.startswith(" ") or any(line.startswith((" ", "#")) for line in told):
        raise StoryError(f"line {first}: prose, then a command, then what is given (indented), then what happened")
    return Paragraph(
        line=first + len(prose), prose=prose, command=command, given=tuple(line[2:] for line in given), told=told
    )


def _while(lines: list[str], holds: Callable[[str], bool]) -> list[str]:
    end = next((i for i, line in enumerate(lines) if not holds(line)), len(lines))
    return lines[:end]


@dataclass
class Behaviour:
    """What a service does: the same on every site."""

    passes: tuple[str, ...] = ()
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    status: int = 200


workflow: ContextVar[str] = ContextVar("workflow", default="")


class Telling:
    """A site's transport that tells what it is asked."""

    def __init__(self, here: str, world: "World") -> None:
        self._here, self._world = here, world
        self._transport = MemoryTransport(here, world.network)

    async def send(self, request: Request, *, site: str) -> Reply:
        if self._world.network.joins(self._here, site):
            self._world.tell(self._world.line_of(request, self._here, site))
        else:
            self._world.tell(f"{self._here} can't reach {site}")
        return await self._transport.send(request, site=site)

    async def recall(self, uuid: str, *, site: str) -> str | None:
        self._world.tell(f"{self._here} asks {site} for a scope that it keeps")
        return await self._transport.recall(uuid, site=site)


class TellingKept(KeptInMemory):
    """Kept scopes that tell of those that are new."""

    def __init__(self, here: str, world: "World") -> None:
        super().__init__(lambda: world.now)
        self._here, self._world = here, world

    def keep(self, uuid: str, text: str) -> None:
        self._world.tell(f"{self._here} keeps {text}")
        super().keep(uuid, text)


class World:
    """The sites of a story, and what happens there."""

    def __init__(self) -> None:
        self.application: Application | None = None
        self.network, self.now = Network(), 0.0
        self._agents: dict[str, Pipeline] = {}
        self._near: dict[str, Distances] = {}
        self._behaviours: dict[str, Behaviour] = {}
        self._shown: tuple[str, ...] = ()
        self._told: list[str] = []

    def happen(self, paragraph: Paragraph) -> tuple[str, ...]:
        """Carries out a command and tells what happened. Raises StoryError."""
        self._told = []
        if paragraph.command:
            try:
                word, *arguments = shlex.split(paragraph.command)
                getattr(self, f"_{word}")(*arguments, **{"given": paragraph.given} if paragraph.given else {})
            except (AttributeError, TypeError, ValueError, KeyError) as error:
                raise StoryError(f"line {paragraph.line}: {paragraph.command}: {error}") from error
        return tuple(self._told)

    def tell(self, *lines: str) -> None:
        self._told += [workflow.get() + line for line in lines]

    def line_of(self, request: Request, origin: str, site: str) -> str:
        """A request that arrives."""
        words = [f"{site}/{request.service}", request.method, request.target.decode()]
        words += [f"from {origin}"] if origin != site else []
        shown = [(name, value.decode()) for name in self._shown for value in request.values(name.encode())]
        return " ".join([*words, *(f"[{name}: {self._readable(name, value)}]" for name, value in shown)])

    def _readable(self, name: str, value: str) -> str:
        """A header's value; what is inside a marked id, or escaped, in plain words."""
        assert self.application
        headers = headers_of([(name, value)])
        carried = read_carried(Request(service="", method="GET", target=b"/", headers=headers), self.application)
        sites = dict(enumerate(self._agents, start=1))
        names = {service.number: name for name, service in self.application.services.items()}
        match carried.by_id:
            case Bindings(numbers=numbers):
                return "{" + ", ".join(f"{names[service]}: {sites[site]}" for service, site in numbers) + "}"
            case KeptBy(site=site):
                return f"kept by {sites[site]}"
        return unquote(value) if name == "baggage" else value

    # The commands: each takes the words that follow it, and `given`.

    def _application(self, *, given: tuple[str, ...]) -> None:
        self.application = parse_document("\n".join(given), "the story", Application)

    def _sites(self, *names: str) -> None:
        assert self.application, "sites need an application"
        numbers = {name: number for number, name in enumerate(names, start=1)}
        for name in names:
            kept = TellingKept(name, self)
            self._agents[name] = Pipeline(
                application=self.application,
                view=view_of(site_of(self.application, name, numbers)),
                transport=Telling(name, self),
                kept=kept,
                peers=PeersInMemory(near=self._near),
                random=_random(name),
            )
            self.network.kept[name] = kept
            for service in self.application.services:
                self.network.services[name, service] = self._instance(name, service)

    def _service(self, name: str, *passes: str, given: tuple[str, ...] = ()) -> None:
        assert self.application
        assert name in self.application.services, f"the application has no service {name}"
        assert not passes or passes[0] == "passes", "write: service NAME passes HEADER…"
        behaviour = Behaviour(passes=passes[1:])
        for line in given:
            word, *rest = line.split()
            if word == "calls":
                service, method, target = rest
                behaviour.calls.append((service, method, target))
            elif word == "answers":
                behaviour.status = int(*rest)
            else:
                raise ValueError(f"a service calls or answers; it doesn't '{word}'")
        self._behaviours[name] = behaviour

    def _show(self, *headers: str) -> None:
        self._shown = headers

    def _cut(self, one: str, other: str) -> None:
        self.network.cut(self._known(one), self._known(other))

    def _heal(self, one: str, other: str) -> None:
        self.network.heal(self._known(one), self._known(other))

    def _finds(self, site: str, peer: str, state: str) -> None:
        peers = self._agents[site].peers
        assert isinstance(peers, PeersInMemory)
        peers.states[self._known(peer)] = PeerState(state)

    def _far(self, site: str, *times: str) -> None:
        pairs = [time.split("=") for time in times]
        trips = {self._known(to): RoundTrip(us=1000 * float(ms), spread_us=0.0, age=0.0) for to, ms in pairs}
        self._near[self._known(site)] = Distances(of={site: RoundTrip(us=0.0, spread_us=0.0, age=0.0), **trips})

    def _stop(self, site: str, service: str) -> None:
        self._replace(site, service, executed="no")

    def _lose(self, site: str, service: str) -> None:
        self._replace(site, service, executed="unknown")

    def _busy(self, site: str, service: str) -> None:
        self._replace(site, service)

    def _replace(self, site: str, service: str, executed: str = "") -> None:
        headers = ((b"cheops-executed", executed.encode()),) if executed else ()

        async def serve(request: Request) -> Reply:
            return reply(503, f"{service} of {site} says no".encode(), headers=headers)

        self.network.services[self._known(site), service] = serve

    def _known(self, site: str) -> str:
        return self._agents[site].view.site

    def _wait(self, hours: str) -> None:
        self.now += float(hours) * 3600

    def _send(self, site: str, service: str, method: str, target: str, *headers: str) -> None:
        asyncio.run(self._client(site, service, method, target, *headers))

    def _together(self, *, given: tuple[str, ...]) -> None:
        async def client(number: int, words: list[str]) -> None:
            workflow.set(f"{number}: ")
            await self._client(*words)

        async def all_of_them() -> None:
            clients = [shlex.split(line.removeprefix("send ")) for line in given]
            await asyncio.gather(*(client(number, words) for number, words in enumerate(clients, start=1)))

        asyncio.run(all_of_them())

    async def _client(self, site: str, service: str, method: str, target: str, *headers: str) -> None:
        before = len(self.network.sent)
        pairs = [tuple(header.replace("$id", self._last_id()).split("=", 1)) for header in headers]
        request = Request(
            service=service,
            method=method,
            target=target.encode(),
            headers=headers_of([(name, value) for name, value in pairs]),
        )
        answered = await self._front(site, request)
        said, hint = _summary(answered, await whole(answered.body))
        self.tell(f"{answered.status} {said}", *([f"hint: {hint}"] if hint else []))
        told = {name: value.decode() for name, value in answered.headers if name in (AROUND, OUTCOME)}
        self.tell(*(f"[{name.decode()}: {value}]" for name, value in told.items()))
        if len(self.network.sent) == before:
            self.tell("nothing was sent anywhere")

    def _last_id(self) -> str:
        carrier = self.application.request_id if self.application else None
        name = carrier.header.lower().encode() if carrier else b""
        ids = [value.decode() for sent in self.network.sent for value in sent.request.values(name)]
        return ids[-1] if ids else ""

    async def _front(self, site: str, request: Request) -> Reply:
        """The front of a service, where the site's agent answers for what isn't the service's own answer."""
        try:
            return await self._agents[site].serve(request)
        except CheopsError as error:
            kind = ((b"content-type", b"application/problem+json"),)
            return reply(error.status, error.body(), headers=kind)

    def _instance(self, site: str, service: str) -> Handler:
        """A service on a site, which calls others at the fronts of its own site."""

        async def serve(request: Request) -> Reply:
            await asyncio.sleep(0)  # others get their turn
            behaviour = self._behaviours.get(service, Behaviour())
            passed: Headers = tuple(pair for pair in request.headers if pair[0].decode() in behaviour.passes)
            name, parts = f"{service} of {site}", []
            for called, method, target in behaviour.calls:
                inner = Request(service=called, method=method, target=target.encode(), headers=passed)
                answered = await self._front(site, inner)
                said, _ = _summary(answered, await whole(answered.body))
                if answered.status >= 400:
                    return reply(502, f"{name}: {called} answered {answered.status} {said}".encode())
                parts.append(said)
            return reply(behaviour.status, (f"{name} ({', '.join(parts)})" if parts else name).encode())

        return serve


def _summary(answered: Reply, body: bytes) -> tuple[str, str]:
    """A body; of a problem document, its code, what it says, and its hint; of a plan, who is asked in which order."""
    kind = dict(answered.headers).get(b"content-type")
    if kind == b"application/json":
        plan = json.loads(body)
        return f"{plan['collaboration']}: " + ", then ".join(f"{s['site']} ({s['state']})" for s in plan["steps"]), ""
    if kind != b"application/problem+json":
        return body.decode(), ""
    problem = json.loads(body)
    return f"{problem['code']}: {problem['detail']}", problem.get("hint", "")


def _random(seed: str) -> Callable[[int], str]:
    digits = Random(seed)
    return lambda count: "".join(digits.choice("0123456789abcdef") for _ in range(count))


def retold(text: str) -> str:
    """The story with what happens now in place of what is told. Raises StoryError."""
    world = World()
    told = []
    for paragraph in paragraphs(text):
        happened = world.happen(paragraph)
        told.append(
            Paragraph(
                line=paragraph.line,
                prose=paragraph.prose,
                command=paragraph.command,
                given=paragraph.given,
                told=happened,
            ).text()
        )
    return "\n\n".join(told) + "\n"
