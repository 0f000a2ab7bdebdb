"""Any request at any front: with a scope in none, one or several of the carriers, written well or badly.

Each way of going wrong has a share of its own, so that a law that fails in one of them fails soon.
"""

from collections.abc import Mapping
from functools import cache
from urllib.parse import quote

from hypothesis import strategies as st

from cheops.applications import Application
from cheops.carry import read_carried
from cheops.carry.request_id import encode, encode_kept
from cheops.errors import CheopsError
from cheops.intercept.envoy.lua import scope_script
from cheops.model import Request
from cheops.pipeline import Pipeline
from cheops.plan import Plan, make_plan
from cheops.sites.memory import PeersInMemory
from cheops.stores.kept import KeptInMemory
from cheops.transports.memory import MemoryTransport, Network
from envoy_lua import Script
from values import OPENSTACK, PLAIN, SHOP, SITES, application, at_once, digits, site_of, view_of

# Signs that mean something in a pattern of Lua, wherever a description may have signs.
ODD = application(r"""
    carriers:
      - {kind: request-id, header: "%X.-", format: "%a(r)-{uuid}-.*"}
      - {kind: token-suffix, headers: [Authorization], separator: "%.+", cut_at: [b]}
    services: {a: {number: 1}, b: {number: 2}, c-._d: {number: 62, aliases: ["1"]}, d: {number: 7}, e: {number: 8}}
""")
ODD_SITES = {"Site1": 1, "true": 2, "1e5": 3, "around": 4, "A.b_c-d": 1023, "10ms": 1022}
DEPLOYMENTS = [(SHOP, SITES), (OPENSTACK, SITES), (PLAIN, ODD_SITES), (ODD, ODD_SITES)]
FRONTS = [(i, service) for i, (known, _) in enumerate(DEPLOYMENTS) for service in known.services]


class Front:
    """The front of a service of Site1, and both who may decide there: Envoy's script and the agent's stages."""

    def __init__(self, described: Application, sites: Mapping[str, int], service: str) -> None:
        self.application, self.service = described, service
        self.site = site_of(described, "Site1", sites)
        self.view = view_of(self.site)
        self.pipeline = Pipeline(
            application=described,
            view=self.view,
            transport=MemoryTransport("Site1", Network()),
            kept=KeptInMemory(lambda: 0.0),
            peers=PeersInMemory(),
            random=digits(),
        )
        self.script = Script(scope_script(self.site, service))

    def __repr__(self) -> str:
        return f"the front of {self.service} of {self.application.application}"

    def agent(self, request: Request) -> Plan | CheopsError:
        """What the agent does with a request."""
        try:
            scope = at_once(self.pipeline.understand(read_carried(request, self.application)))
            return make_plan(scope, self.service, self.view)
        except CheopsError as error:
            return error


@cache
def front(deployment: int, service: str) -> Front:
    return Front(*DEPLOYMENTS[deployment], service)


SIGNS = ["{", "}", "(", ")", ",", ":", ";", "||", "&", "%", "'", '"', "\\", " ", "\t", "{}", "é", "\xa0", "\x1c", "?"]
SPACES = st.sampled_from(["", "", " ", "\t  "])
QUOTES = st.sampled_from(["", "", "", '"', "'"])


def spellings(at: Front) -> dict[str, tuple[str, ...]]:
    """The names of each service, in some of their spellings."""
    return {
        name: tuple(w for word in (name, *service.aliases) for w in (word, word.upper(), word.capitalize()))
        for name, service in at.application.services.items()
    }


@st.composite
def written(draw: st.DrawFn, pairs: list[tuple[str, str]]) -> str:
    """The bindings as somebody may write them."""
    space, one, two = draw(SPACES), draw(QUOTES), draw(QUOTES)
    entries = [f"{one}{key}{one}{space}:{space}{two}{site}{two}{space}" for key, site in pairs]
    return space + "{" + space + ("," + space).join(entries) + "}" + space


@st.composite
def bound(draw: st.DrawFn, at: Front, most: int = 6) -> list[tuple[str, str]]:
    """Services and their sites: often the front's own, none twice."""
    services = draw(st.lists(st.sampled_from(list(at.application.services)), max_size=most - 1, unique=True))
    services += [at.service] if at.service not in services and (not services or draw(st.booleans())) else []
    sites = st.sampled_from(at.view.names.sites)
    return [(draw(st.sampled_from(spellings(at)[service])), draw(sites)) for service in services]


def plain(at: Front) -> st.SearchStrategy[str]:
    return bound(at).flatmap(written)


@st.composite
def flawed(draw: st.DrawFn, at: Front) -> str:
    """A plain scope, but for one thing."""
    pairs = draw(bound(at, most=3))
    service, site = draw(st.sampled_from(list(at.application.services))), draw(st.sampled_from(at.view.names.sites))
    flaw = draw(st.sampled_from(["twice", "site", "service", "comma", "literal", "slip"]))
    if flaw == "twice":
        words = next(words for words in spellings(at).values() if pairs[0][0] in words)
        pairs.append((draw(st.sampled_from(words)), site))
    elif flaw == "site":
        pairs[-1] = (pairs[-1][0], draw(st.sampled_from(["Nowhere", site.swapcase(), "Site11", "2"])))
    elif flaw == "service":
        pairs.append((draw(st.sampled_from(["prime", "nothing", service + "s"])), site))
    text = draw(written(pairs))
    if flaw == "comma":
        return text.replace("}", ",}")
    if flaw == "literal":
        return f'{{"{service}": {site}}}'
    if flaw == "slip":
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 2, len(text))))
        return text[:start] + draw(st.sampled_from(["", *SIGNS])) + text[end:]
    return text


@st.composite
def operators(draw: st.DrawFn, at: Front) -> str:
    site = st.sampled_from(at.view.names.sites)
    sign = draw(st.sampled_from(["&", "%", ";", "||", " & "]))
    location = draw(st.sampled_from([f"{draw(site)}{sign}{draw(site)}", f"around({draw(site)}, 10ms)", draw(site)]))
    return draw(st.sampled_from([location, f"{{{location}}}", f"{{{at.service}: {location}}}"]))


@st.composite
def json_texts(draw: st.DrawFn, at: Front) -> str:
    return "{" + ", ".join(f'"{key}": "{site}"' for key, site in draw(bound(at))) + "}"


def scope_texts(at: Front) -> st.SearchStrategy[str]:
    """Half of them plain."""
    words = [*at.application.services, *at.view.names.sites, *SIGNS]
    anything = st.lists(st.sampled_from(words), max_size=12).map("".join)
    return st.one_of(*[plain(at)] * 5, json_texts(at), *[flawed(at)] * 3, operators(at), anything)


@st.composite
def baggage(draw: st.DrawFn, at: Front) -> list[bytes]:
    """The values of one or more headers `baggage`."""
    text = draw(plain(at) | scope_texts(at)).encode()
    good = b"scope=" + quote(text, safe="").encode()
    safe = b"scope=" + text.replace(b" ", b"").replace(b"\t", b"")
    bad = [b" scope = " + good[6:], b"Scope" + good[5:], b"scope;x=1", b"x;" + good, b"scope", good + b" x"]
    also = [good + b";p=1", good + b" ; p", good + b";scope=x", safe, safe + b" junk", b"scope=" + text]
    member = draw(st.sampled_from([good] * 10 + also + bad))
    others = st.sampled_from([b"userId=alice", b"a=scope;b", b"scopes=1", b"", b" ", b"k=%7B", b"k=1"])
    members = [*draw(st.lists(others, max_size=2)), member, *draw(st.lists(others | st.just(good), max_size=1))]
    split = draw(st.sampled_from([0, 0, 1, 2]))
    return [b",".join(part) for part in (members[:split], members[split:]) if part]


@st.composite
def request_ids(draw: st.DrawFn, at: Front, before: str, after: str) -> bytes:
    services, sites = at.view.service_numbers, at.view.site_numbers
    pairs = draw(bound(at, most=4))
    known = {word: services[name] for name, words in spellings(at).items() for word in words}
    numbers = [(known[key], sites[site]) for key, site in pairs]
    flaw = draw(
        st.sampled_from([""] * 6 + ["twice", "service", "site", "kept", "count", "shape", "unmarked", "around"])
    )
    if flaw == "twice":
        numbers = [*numbers[:3], (numbers[0][0], draw(st.sampled_from(list(sites.values()))))]
    elif flaw in ("service", "site"):
        numbers[-1] = (63, numbers[-1][1]) if flaw == "service" else (numbers[-1][0], draw(st.sampled_from([0, 77])))
    uuid = encode(numbers, digits())
    if flaw == "kept":
        uuid = encode_kept(draw(st.sampled_from([*sites.values(), 77])), digits())
    elif flaw == "count":
        uuid = uuid[:5] + draw(st.sampled_from("0567e")) + uuid[6:]
    elif flaw == "shape":
        place = draw(st.sampled_from([0, 8, 14, 19, 35]))
        uuid = draw(st.sampled_from([uuid[:place] + "7" + uuid[place + 1 :], uuid[:-1], uuid + "0", uuid.upper()]))
    elif flaw == "unmarked":
        uuid = str(draw(st.uuids()))
    elif flaw == "around":
        before, after = draw(st.sampled_from([("", ""), (before, after + "x"), ("x" * len(before), after)]))
    return (before + uuid + after).encode()


@st.composite
def tokens(draw: st.DrawFn, at: Front, separator: str) -> bytes:
    token = draw(st.sampled_from(["gAAAA", "gAAAA", "a!b", "", f"g{separator}{{}}x"]))
    suffix = draw(st.just("") | scope_texts(at).map(lambda text: separator + text.strip()))
    return (token + suffix).encode() + draw(st.sampled_from([b""] * 9 + [b"x"]))


@st.composite
def paths(draw: st.DrawFn, at: Front) -> str:
    """A path under /~scope/."""
    text = draw(scope_texts(at))
    escaped = draw(st.sampled_from([quote(text, safe="")] * 4 + [text.replace("é", "").replace(" ", "")]))
    after = ["/", "/v2/images?q=1", "/~scope/x/y", "//a/", "/%2F", "", "?a", "#"]
    return "/~scope/" + escaped + draw(st.sampled_from(after[:5] * 3 + after[5:]))


KINDS = ["x-scope", "x-scope", "path", "baggage", "id", "token"]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Front, Request]:
    """A front, and a request at it."""
    at = front(*draw(st.sampled_from(FRONTS)))
    kinds = draw(st.sampled_from(KINDS).map(lambda kind: {kind}) | st.sets(st.sampled_from(KINDS)))
    headers: list[tuple[bytes, bytes]] = [(b"accept", b"*/*")]
    if "x-scope" in kinds and ("path" not in kinds or draw(st.integers(0, 9)) == 9):  # both is a mistake
        texts = draw(st.lists(scope_texts(at), min_size=1, max_size=draw(st.sampled_from([1] * 9 + [2]))))
        headers += [(b"x-scope", text.encode(draw(st.sampled_from(["utf-8", "latin1"])))) for text in texts]
    if "baggage" in kinds:
        headers += [(b"baggage", value) for value in draw(baggage(at))]
    if "id" in kinds and (carrier := at.application.request_id):
        name, often = carrier.header.lower().encode(), draw(st.sampled_from([1] * 9 + [2]))
        headers += [(name, draw(request_ids(at, *carrier.around))) for _ in range(often)]
    if "token" in kinds and (suffix := at.application.token_suffix):
        for header in suffix.headers:
            often = draw(st.sampled_from([0, 1, 1, 1, 2]))
            headers += [(header.lower().encode(), draw(tokens(at, suffix.separator))) for _ in range(often)]
    plain_paths = st.sampled_from(["/", "/v2/images?x={a}", "/~scope", "/a/~scope/b"])
    target = draw(paths(at) if "path" in kinds else plain_paths)
    return at, Request(service=at.service, method="GET", target=target.encode(), headers=tuple(headers))
