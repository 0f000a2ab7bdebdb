"""The description of an application: its services, and how a scope follows a request inside it.

Without a description the conventions of REST hold, so every field but a service's name has a default. What it does
not promise: that the application really propagates what its carriers say; that is for a trial to show.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from cheops.applications.errors import Errors
from cheops.applications.resources import Resource, TypeName
from cheops.documents import Document, Misplaced, read_document

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _service_name(name: str) -> str:
    if not name or not name[0].isalnum() or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in name):
        raise ValueError(
            "a service's name is made of letters, digits, '_', '.' and '-', and begins with one of the first two"
        )
    if name.lower() == "prime":
        raise ValueError("'prime' means something else in a scope; give the service another name")
    if name.lower() == "cheops":
        raise ValueError("'cheops' is the agent itself; give the service another name")
    return name.lower()


def _one_spelling(services: Any) -> Any:
    """Of two names that differ in case only, the later would silently take the place of the other."""
    seen: dict[str, str] = {}
    for name in services if isinstance(services, dict) else ():
        if isinstance(name, str) and seen.setdefault(name.lower(), name) != name:
            raise Misplaced(f"this is the service '{seen[name.lower()]}' again; names have no case", name)
    return services


ServiceName = Annotated[str, AfterValidator(_service_name)]
OneSpelling = BeforeValidator(_one_spelling)


class HeaderCarrier(Document):
    """X-Scope itself: for services that pass every header on."""

    kind: Literal["header"]


class BaggageCarrier(Document):
    """The member `scope` of W3C baggage: for services that are traced with OpenTelemetry."""

    kind: Literal["baggage"]


class RequestIdCarrier(Document):
    """The request id that the application propagates; the bindings ride inside its UUID."""

    kind: Literal["request-id"]
    header: HeaderName
    format: str = Field(default="{uuid}", pattern=r"^[!-~]+$")

    @model_validator(mode="after")
    def _has_one_uuid(self) -> "RequestIdCarrier":
        if self.format.count("{uuid}") != 1:
            raise Misplaced("the format needs '{uuid}' once, such as 'req-{uuid}'", "format")
        return self

    @property
    def around(self) -> tuple[str, str]:
        """What stands before and after the UUID."""
        before, _, after = self.format.partition("{uuid}")
        return before, after


class TokenSuffixCarrier(Document):
    """A suffix on the user's token, cut off again before the services of `cut_at` see it."""

    kind: Literal["token-suffix"]
    headers: tuple[HeaderName, ...] = Field(min_length=1)
    separator: str = Field(default="!", min_length=1, pattern=r"^[!#$%&'*+.^_`|~,;:=@?/-]+$")
    cut_at: tuple[ServiceName, ...] = ()


Carrier = HeaderCarrier | BaggageCarrier | RequestIdCarrier | TokenSuffixCarrier


class CredentialHeaders(Document):
    """Headers that are secrets, besides those that are known and those whose names smell of it."""

    headers: tuple[HeaderName, ...] = ()


class Service(Document):
    """One service of the application. `number` is what a request id carries; all sites must agree on it."""

    number: int | None = Field(default=None, ge=1, le=62)
    aliases: tuple[ServiceName, ...] = ()
    port: Port | None = None
    backend_port: Port | None = None
    upgrades: tuple[str, ...] = ()
    credentials: CredentialHeaders = CredentialHeaders()
    resources: dict[TypeName, Resource] = {}


class Application(Document):
    """An application: its services by type, and its carriers in the order in which they are looked at."""

    application: str = "application"
    carriers: tuple[Annotated[Carrier, Field(discriminator="kind")], ...] = (
        HeaderCarrier(kind="header"),
        BaggageCarrier(kind="baggage"),
    )
    errors: Errors = Errors()
    services: Annotated[dict[ServiceName, Service], OneSpelling] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_clear(self) -> "Application":
        owner: dict[str, str] = {}
        for name, service in self.services.items():
            for word in {name, *service.aliases}:
                if word in owner:
                    what = f"'{word}' names both {owner[word]} and {name}; a name has one meaning"
                    raise Misplaced(what, "services", name)
                owner[word] = name
        return self

    @model_validator(mode="after")
    def _numbers_are_clear(self) -> "Application":
        owner: dict[int, str] = {}
        for name, number in ((name, service.number) for name, service in self.services.items()):
            if number in owner:
                raise Misplaced(f"{owner[number]} has the number {number} already", "services", name, "number")
            if number is not None:
                owner[number] = name
            elif self.request_id:
                what = "a request id carries numbers, so each service needs a `number`, from 1 to 62"
                raise Misplaced(what, "services", name)
        return self

    @model_validator(mode="after")
    def _carriers_are_clear(self) -> "Application":
        kinds = [carrier.kind for carrier in self.carriers]
        for place, carrier in enumerate(self.carriers):
            if carrier.kind in kinds[:place]:
                raise Misplaced(f"a carrier of the kind '{carrier.kind}' may stand here once", "carriers", place)
            for service in getattr(carrier, "cut_at", ()):
                if service not in self.services:
                    what = f"'{service}' isn't a service here; there are: {', '.join(self.services)}"
                    raise Misplaced(what, "carriers", place, "cut_at")
        return self

    @model_validator(mode="after")
    def _references_are_clear(self) -> "Application":
        known = {f"{name}/{kind}" for name, service in self.services.items() for kind in service.resources}
        for name, service in self.services.items():
            for kind, resource in service.resources.items():
                for target, path in resource.references():
                    if (target if "/" in target else f"{name}/{target}") not in known:
                        what = f"there is no type '{target}'; a type of another service is written service/type"
                        raise Misplaced(what, "services", name, "resources", kind, *path)
        return self

    def closely(self, services: Collection[str]) -> frozenset[str]:
        """These services, and those whose resources refer to resources of theirs, as far as that is described."""
        close = frozenset(name for name in services if name in self.services)
        return close | {name for name, service in self.services.items() if close & _referred(service)}

    @property
    def request_id(self) -> RequestIdCarrier | None:
        return next((c for c in self.carriers if isinstance(c, RequestIdCarrier)), None)

    @property
    def token_suffix(self) -> TokenSuffixCarrier | None:
        return next((c for c in self.carriers if isinstance(c, TokenSuffixCarrier)), None)

    @property
    def adds_baggage(self) -> bool:
        return any(isinstance(c, BaggageCarrier) for c in self.carriers)

    @property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        return {name: service.aliases for name, service in self.services.items()}


def _referred(service: Service) -> set[str]:
    targets = {target for resource in service.resources.values() for target, _ in resource.references()}
    return {target.partition("/")[0] for target in targets if "/" in target}


def read_application(path: Path) -> Application:
    """The description in the file at `path`. Raises BadSettings."""
    return read_document(path, Application)
