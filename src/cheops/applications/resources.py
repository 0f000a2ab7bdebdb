"""The resources of a service: where they are, what names them, what they refer to, and what requests mean to them.

What is said here is for what has to tell one resource from another; sharing does without. Without a description
the conventions of REST hold: POST to a collection creates, and `Location` or `id` names what was made; PUT replaces,
PATCH merges, DELETE deletes (RFC 9110, RFC 5789), and POST below a resource is an action.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cheops.documents import Document, Misplaced

_PLACES = re.compile(r"\{([^{}]*)\}")

Path = Annotated[str, StringConstraints(pattern=r"^/[^\s?#]*$")]
FieldPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_:-]*(\[\])?(\.[A-Za-z_][A-Za-z0-9_:-]*(\[\])?)*$")
]
"""A field of a body, such as image_id, networks[].uuid or server.imageRef; [] stands for each of a list."""
TypeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
Reference = Annotated[str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9_.-]*/)?[a-z][a-z0-9-]*$")]
"""A type of the same service, or service/type."""


Meaning = Literal["merge", "replace", "action"]


class Follows(Document):
    """What goes on after its reply: the values of a field that say how it ended; any other is under way."""

    field: FieldPath
    done: tuple[str, ...] = Field(min_length=1)
    failed: tuple[str, ...] = ()


class Content(Document):
    """The bytes of a resource, sent by a request of their own once the resource is there.

    `once`: the service takes them once, and answers 409 from then on; the field of the item tells whether it has them.
    """

    path: Path
    method: Literal["PUT", "POST", "PATCH"] = "PUT"
    media_type: str = "application/octet-stream"
    once: Follows | None = None


class Action(Document):
    """A request that is no change of fields: `path` stands below the item, `key` is a member of its body.

    `commutes`: with every other action, in any order. `repeats`: twice is the same as once.
    """

    path: Annotated[str, StringConstraints(pattern=r"^([^/\s?#]+(/[^/\s?#]+)*)?$")] = ""
    key: str | None = None
    commutes: bool = False
    repeats: bool = False


class Division(Document):
    """How a field of a whole is divided among its parts; what isn't divided is the same in all.

    `share`: a number is split by `weights` (of sites; 1 for those that aren't named), the remainder goes to the prime.
    `pools`: of an address range, whose field is `range` (a CIDR), each part gets addresses of its own. The field that
    is divided is a list of {"start": …, "end": …}; `gateway` is the field of an address that none of them gets. The
    range is cut into twice as many slots as there are parts at first, at least four, so that sites can join later.
    """

    by: Literal["share", "pools"]
    weights: dict[str, Annotated[int, Field(ge=0)]] = {}
    range: FieldPath | None = None
    gateway: FieldPath | None = None

    @model_validator(mode="after")
    def _pools_have_a_range(self) -> Self:
        if (self.by == "pools") != (self.range is not None):
            raise Misplaced("`range` says of which field the addresses are, for `by: pools` alone", "range")
        return self


Aggregate = Literal["sum", "min", "max", "concat", "all", "any"]


class Children(Document):
    """The resources that belong to a whole, by the type they are of.

    They are inside of it by their path, or their `field` names it. `spans`: each is a whole of its own, on the same
    sites; else each is where the request for it came in. `holds`: the whole can't be deleted while there are any, but
    for those that have one of these values in a field.
    """

    field: FieldPath | None = None
    spans: bool = False
    holds: bool = False
    unless: dict[FieldPath, tuple[str, ...]] = {}


class Restate(Document):
    """The request that says anew what is divided, once there are other parts: of one, with the field in its body."""

    method: Literal["PATCH", "PUT"] = "PATCH"
    media_type: str = "application/json"


class Span(Document):
    """How one resource spans sites: as parts, each an ordinary resource of its site.

    A field of a reply is that of the prime's part, unless it is divided or `aggregate` says how it comes of all.
    `views` are what is below its path and says the same fields once more, as Kubernetes' `scale` does: they are divided
    and united too. `updates`: what a change does while a part can't be reached.
    """

    divide: dict[FieldPath, Division] = {}
    aggregate: dict[FieldPath, Aggregate] = {}
    children: dict[TypeName, Children] = {}
    views: tuple[str, ...] = ()
    updates: Literal["wait", "refuse"] = "wait"
    restate: Restate = Restate()

    def divides(self, facet: str) -> bool:
        """Whether what is below the path, or the resource itself (""), has the fields that are divided."""
        return not facet or facet in self.views


class Paging(Document):
    """The parameters of a list: how many items a page has, and by which fields they are sorted ("-" before one: from
    the last to the first); `order`: how they are without that. `fields` names those that are told of an item, once for
    each or with commas between them; else all are.
    """

    limit: str | None = None
    sort: str | None = None
    order: str = ""
    fields: str | None = None


class Resource(Document):
    """A type of resource. Fields are those of its body, inside the wrapper if it has one.

    `client_id` says what the service does with an id that the client chose for a new one. `{name*}` in a path stands
    for one or more segments that are the same on every site.
    """

    collection: Path
    item: Path | None = None  # else the collection, and /{id}
    lists: tuple[Path, ...] = ()  # where else it is listed
    inside: dict[TypeName, FieldPath] = {}  # where what is in those says inside of what it is, by the owner's type
    one: str | None = None  # what wraps one: {"server": {...}}
    many: str | None = None  # what wraps a list of them: {"servers": [...]}
    id: FieldPath = "id"
    name: FieldPath | None = "name"
    client_id: Literal["accepted", "ignored", "refused"] = "ignored"
    refers: dict[FieldPath, Reference] = {}
    content: Content | None = None
    methods: dict[Literal["PATCH", "PUT", "POST"], Meaning] = {}  # of requests to one; else as REST has it
    actions: tuple[Action, ...] = ()
    set_by_site: tuple[FieldPath, ...] = ()  # never compared, never copied
    from_caller: tuple[FieldPath, ...] = ()  # taken from who asks, unless the body of a creation says it
    revision: tuple[FieldPath, ...] = ()  # a site's own, opaque: not recorded
    key: tuple[FieldPath, ...] = ()  # by these a creation is looked for after a crash; else by the name
    unique_name: bool = False  # the key is unique in its collection, so it is an identity
    follows: Follows | None = None
    errors_in: FieldPath | None = None  # a reply of 200 that has it has failed
    replaceable: bool = False  # the body of a creation may be PUT to the item
    session: bool = False  # only who made it knows of it
    moves: bool = False  # its address is the last Location that the service gave
    span: Span | None = None  # how it spans sites; else all parts are the same, and nothing belongs to it
    paging: Paging = Paging()

    @property
    def natural_key(self) -> tuple[str, ...]:
        return self.key or ((self.name,) if self.name else ())

    @property
    def item_path(self) -> str:
        return self.item or f"{self.collection}/{{id}}"

    @model_validator(mode="after")
    def _places_are_clear(self) -> Self:
        if "id" in _PLACES.findall(self.collection):
            raise Misplaced("a collection has no {id}; what it belongs to is named for its type", "collection")
        inside = {*_PLACES.findall(self.collection), "id"}
        for field, path in (("item", self.item), ("content", self.content and self.content.path)):
            if path and set(_PLACES.findall(path)) != inside:
                wanted = " and ".join(f"{{{place}}}" for place in sorted(inside))
                raise Misplaced(f"the path of one needs {wanted}, and nothing else in braces", field)
        return self

    @property
    def owners(self) -> tuple[str, ...]:
        """The types of the resources inside which these are, from the outside inwards."""
        return tuple(place for place in _PLACES.findall(self.collection) if not place.endswith("*"))

    @model_validator(mode="after")
    def _a_key_is_there(self) -> Self:
        if self.unique_name and not self.natural_key:
            raise Misplaced("there is no name that could be unique; say which field, as `key`", "unique_name")
        return self

    def references(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each type that is named here, and where."""
        for owner in self.owners:
            yield owner, ("collection",)
        for field, target in self.refers.items():
            yield target, ("refers", field)
        for child in self.span.children if self.span else ():
            yield child, ("span", "children", child)
