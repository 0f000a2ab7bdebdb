"""Stories of who is a member, and who lives: commands in, what each site found out. Written as the stories beside.

They happen on a virtual clock, on which every site's Heart runs over simulated links of 10 ms each way. The commands:

    sites NAME…                   sites that list each other in site.yaml, each started within the same second
    wait SECONDS
    kill SITE · start SITE        its agent and Envoy end (connections are refused); it comes back with its data
    wipe SITE                     it comes back without them, and knows of one other site
    stop agent of SITE · start agent of SITE      its Envoy goes on
    blackhole SITE [SITE]         nothing gets from or to a site, or between two, and nobody is told; `heal` ends it
    cut SITE SITE                 the same as a blackhole between two
    oneway SITE SITE              nothing gets from the first to the second; the other way all does
    closed SITE SITE              the first can't connect to the second; the other way it can, and gets replies
    lose SITE SITE N              the next N messages from the first to the second are lost
    flap SITE SITE N times in SECONDS
    heal                          all links are as they should be
    join NAME via SITE            a new site, which knows of one other
    leave SITE · remove SITE at SITE
    certificate SITE              the authority gives it a new one, with which it starts
    clock SITE SECONDS            its wall clock is ahead by so much
    suspend SITE SECONDS          its agent's loop stands still
    pretend SITE SITE             the first says that it is the second
    show SITE                     its view of the others

What happened is told as `after SECONDS SITE finds…`, counted from the last command that wasn't `wait` or `show`.
"""

import shlex
from dataclasses import replace

from bench.simulated import Deployment, member, seed

from cheops.sites.events import Event, Happening
from cheops.sites.roll import Member, Roll
from stories.story import Paragraph, StoryError, paragraphs

WORDS = {
    Happening.UP: "finds {site} up",
    Happening.SUSPECT: "finds {site} suspect",
    Happening.DOWN: "finds {site} down",
    Happening.JOINED: "hears that {site} joined",
    Happening.LEFT: "hears that {site} left",
    Happening.REMOVED: "hears that {site} was removed",
    Happening.WIPED: "sees that {site} came back without its data",
    Happening.CLASH: "sees that {site} claims a number: {detail}",
    Happening.OUTDATED: "hears that {detail}",
    Happening.STOOD_STILL: "stood still {detail}",
}
QUIET = ("wait", "show")
FLAP_STEPS = 2  # a flap is a cut and a healing


class Membership:
    """The sites of a story, and what they find."""

    def __init__(self, seed_number: int = 1) -> None:
        self.deployment = Deployment(seed=seed_number, on_event=self._hear)
        self.events: list[tuple[str, Event]] = []
        self._members: dict[str, Member] = {}
        self._since = 0.0
        self._told: list[str] = []

    def happen(self, paragraph: Paragraph) -> tuple[str, ...]:
        """Carries out a command and tells what happened. Raises StoryError."""
        self._told = []
        if paragraph.command:
            try:
                self.do(paragraph.command)
            except (AttributeError, TypeError, ValueError, KeyError) as error:
                raise StoryError(f"line {paragraph.line}: {paragraph.command}: {error}") from error
        return tuple(self._told)

    def do(self, command: str) -> None:
        word, *arguments = shlex.split(command)
        if word not in QUIET:
            self._since = self.deployment.now
        getattr(self, f"_{word}")(*arguments)

    def times(self, site: str, what: Happening, of: str) -> list[float]:
        """When a site found so, on the virtual clock."""
        return [event.at for by, event in self.events if by == site and event.what is what and event.site == of]

    def _hear(self, site: str, event: Event) -> None:
        self.events.append((site, event))
        after = event.at - self._since
        words = WORDS[event.what].format(site="it" if event.site == site else event.site, detail=event.detail)
        self._told.append(f"after {after:.1f} s {site} {words}")

    # The commands: each takes the words that follow it.

    def _sites(self, *names: str) -> None:
        for number, name in enumerate(names, start=1):
            self._members[name] = replace(member(number), name=name)
        for name in names:
            self._begin(name)

    def _begin(self, name: str, incarnation: str = "1", knows: Roll | None = None, ahead: float = 0.0) -> None:
        others = [seed(one) for other, one in self._members.items() if other != name]
        roll = Roll.of(*others) if knows is None else knows
        self.deployment.start(self._members[name], roll, incarnation=incarnation, ahead=ahead)

    def _wait(self, seconds: str) -> None:
        self.deployment.run(float(seconds))

    def _kill(self, name: str) -> None:
        self.deployment.kill(self._known(name))

    def _start(self, *words: str) -> None:
        *_agent_of, name = words
        self._begin(name, knows=self.deployment.nodes[name].heart.roll)

    def _stop(self, _agent: str, _of: str, name: str) -> None:
        self.deployment.nodes[name].agent_runs = False

    def _wipe(self, name: str) -> None:
        self.deployment.kill(self._known(name))
        known = next(one for other, one in self._members.items() if other != name)
        self._begin(name, incarnation="2", knows=Roll.of(seed(known)))

    def _blackhole(self, name: str, other: str = "") -> None:
        if other:
            self._cut(name, other)
        else:
            self.deployment.links.dark.add(self._known(name))

    def _cut(self, one: str, other: str) -> None:
        self._oneway(one, other)
        self._oneway(other, one)

    def _oneway(self, origin: str, to: str) -> None:
        self.deployment.links.silent.add((self._known(origin), self._known(to)))

    def _closed(self, origin: str, to: str) -> None:
        self.deployment.links.closed.add((self._known(origin), self._known(to)))

    def _lose(self, origin: str, to: str, count: str) -> None:
        self.deployment.links.losing[self._known(origin), self._known(to)] = int(count)

    def _flap(self, one: str, other: str, count: str, *times_in_seconds: str) -> None:
        step = float(times_in_seconds[-1]) / int(count) / FLAP_STEPS
        for flap in range(int(count)):
            start = self.deployment.now + flap * step * FLAP_STEPS
            self.deployment.at(start, self._cut, one, other)
            self.deployment.at(start + step, self._heal)

    def _heal(self) -> None:
        links = self.deployment.links
        for broken in (links.silent, links.closed, links.dark):
            broken.clear()
        links.losing.clear()

    def _join(self, name: str, _via: str, known: str) -> None:
        self._members[name] = replace(member(len(self._members) + 1), name=name)
        self._begin(name, knows=Roll.of(seed(self._members[known])))

    def _leave(self, name: str) -> None:
        self.deployment.nodes[name].heart.leave(self.deployment.now)

    def _remove(self, name: str, _at: str, where: str) -> None:
        self.deployment.nodes[where].heart.remove(name, self.deployment.now)

    def _certificate(self, name: str) -> None:
        old = self._members[name]
        self._members[name] = replace(old, generation=old.generation + 100)
        self.deployment.kill(name)
        self._begin(name)

    def _clock(self, name: str, seconds: str) -> None:
        self.deployment.nodes[name].ahead = float(seconds)

    def _suspend(self, name: str, seconds: str) -> None:
        self.deployment.stand_still(self._known(name), float(seconds))

    def _pretend(self, name: str, claimed: str) -> None:
        self.deployment.nodes[name].claims = claimed

    def _show(self, name: str) -> None:
        heart = self.deployment.nodes[name].heart
        for peer, view in sorted(heart.peers(self.deployment.now).items()):
            offset = round(view.clock_offset or 0)
            extras = [f"incarnation {view.incarnation}"] if view.incarnation not in ("", "1") else []
            extras += [f"clock {offset:+d} s"] if offset else []
            extras += ["agent away"] if view.agent_away else []
            extras += [view.note] if view.note else []
            self._told.append(f"{peer} {view.state.value}" + "".join(f", {extra}" for extra in extras))

    def _known(self, name: str) -> str:
        return self.deployment.nodes[name].heart.me.name


def retold(text: str) -> str:
    """The story with what happens now in place of what is told. Raises StoryError."""
    world, told = Membership(), []
    for paragraph in paragraphs(text):
        told.append(replace(paragraph, told=world.happen(paragraph)).text())
    return "\n\n".join(told) + "\n"
