"""The resources of a service: where they are, what names them, and what they refer to.

What is said here is for what has to tell one resource from another; sharing does without. Without a description
the conventions of REST hold: POST to a collection creates, and `id` names what was made.
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


class Content(Document):
    """The bytes of a resource, sent by a request of their own once the resource is there."""

    path: Path
    method: Literal["PUT", "POST", "PATCH"] = "PUT"
    media_type: str = "application/octet-stream"


class Behaviour(Document):
    """What doing it again, or in another order, does: nothing more than once is surely wrong if nothing is said."""

    commutes: bool = False
    repeats: bool = False


class Follows(Document):
    """How a service says what became of what it has accepted: a field of the item, and what stands there at the end."""

    field: FieldPath
    done: tuple[str, ...] = Field(min_length=1)
    failed: tuple[str, ...] = ()


Meaning = Literal["replace", "merge", "action"]


class Resource(Document):
    """A type of resource. `id` and `name` are fields of its body, inside the wrapper if it has one.

    `client_id` says what the service does with an id that the client chose for a new one; `unique_name`: a name names
    one resource of its collection. `methods` say what a method on one means, if not what HTTP says. `actions` are by
    path below the item, and the first member of the body if that tells them apart (action/os-start). `set_by_site` are
    fields that each site sets itself, `revision` those that name a site's own version of it. `key` is the field by
    which one is looked for after a crash, if its id can't be chosen. `replaceable`: the body of a creation may be put
    to the item. `session`: nobody but who made it writes to it; `moves`: its address is the last Location.
    """

    collection: Path
    item: Path | None = None  # else the collection, and /{id}
    lists: tuple[Path, ...] = ()  # where else it is listed
    one: str | None = None  # what wraps one: {"server": {...}}
    many: str | None = None  # what wraps a list of them: {"servers": [...]}
    id: FieldPath = "id"
    name: FieldPath | None = "name"
    client_id: Literal["accepted", "ignored", "refused"] = "ignored"
    refers: dict[FieldPath, Reference] = {}
    content: Content | None = None
    methods: dict[Literal["PUT", "PATCH", "POST"], Meaning] = {}
    actions: dict[str, Behaviour] = {}
    set_by_site: tuple[FieldPath, ...] = ()
    revision: tuple[FieldPath, ...] = ()
    key: FieldPath | None = None
    unique_name: bool = False
    follows: Follows | None = None
    errors_in: FieldPath | None = None
    replaceable: bool = False
    session: bool = False
    moves: bool = False

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
        return tuple(_PLACES.findall(self.collection))

    def references(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Each type that is named here, and where."""
        for owner in self.owners:
            yield owner, ("collection",)
        for field, target in self.refers.items():
            yield target, ("refers", field)
