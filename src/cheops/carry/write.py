"""Puts a resolved scope into whatever the application propagates, so that it follows the workflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from cheops.applications import Application, RequestIdCarrier, TokenSuffixCarrier
from cheops.carry.read import BAGGAGE, HEADER, in_request_id, is_scope, split_token
from cheops.carry.request_id import MOST_BINDINGS, Bindings, RandomDigits, encode, encode_kept
from cheops.model import Request, Resolved, View
from cheops.scope import parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Carrying:
    """The request with its scope, and the UUID under which the scope has to be kept before it is sent ("" if none)."""

    request: Request
    keep_under: str = ""


def carry(request: Request, resolved: Resolved, application: Application, view: View, random: RandomDigits) -> Carrying:
    """The request with the resolved scope in each of the application's carriers."""
    request = request.with_header(HEADER, resolved.text().encode())
    keep_under = ""
    if application.request_id:
        request, keep_under = _in_request_id(request, resolved, application.request_id, view, random)
    if application.adds_baggage:
        request = _in_baggage(request, resolved)
    if application.token_suffix:
        request = _on_tokens(request, resolved, application.token_suffix)
    return Carrying(request=request, keep_under=keep_under)


def carry_locations(
    request: Request, locations: Mapping[str, str], application: Application, view: View, random: RandomDigits
) -> tuple[Carrying, str]:
    """The same for what a scope says of services, as text: {"image": "Site1 & Site2"}; and the text of it all."""
    text = "{" + ", ".join(f"{service}: {place}" for service, place in locations.items()) + "}"
    bindings = parse(text).bindings
    resolved = Resolved(location_of={binding.service: binding.location for binding in bindings})
    return carry(request, resolved, application, view, random), resolved.text()


def _in_request_id(
    request: Request, resolved: Resolved, carrier: RequestIdCarrier, view: View, random: RandomDigits
) -> tuple[Request, str]:
    name, (before, after) = carrier.header.lower().encode(), carrier.around
    site_of = resolved.site_of
    numbers = _numbers(site_of or {}, view.service_numbers, view.site_numbers)
    if site_of is None or len(numbers) > MOST_BINDINGS:
        uuid = encode_kept(view.site_numbers[view.site], random)
        return request.with_header(name, f"{before}{uuid}{after}".encode()), uuid
    carried = in_request_id(request, carrier)[0]
    if carried is None and not numbers:
        return request, ""  # nothing is asked for, and the id says nothing else
    if carried != Bindings(numbers=numbers):  # else one workflow keeps one id
        request = request.with_header(name, f"{before}{encode(numbers, random)}{after}".encode())
    return request, ""


def _numbers(
    site_of: Mapping[str, str], services: Mapping[str, int], sites: Mapping[str, int]
) -> tuple[tuple[int, int], ...]:
    return tuple((services[service], sites[site]) for service, site in site_of.items())


def _in_baggage(request: Request, resolved: Resolved) -> Request:
    kept = [m.strip() for m in b",".join(request.values(BAGGAGE)).split(b",") if m.strip() and not is_scope(m)]
    return request.with_header(BAGGAGE, b",".join([*kept, b"scope=" + quote(resolved.text(), safe="").encode()]))


def _on_tokens(request: Request, resolved: Resolved, carrier: TokenSuffixCarrier) -> Request:
    if request.service in carrier.cut_at:
        return request
    for name in (header.lower().encode() for header in carrier.headers):
        values = request.values(name)
        if len(values) == 1:
            token, _ = split_token(values[0], carrier) or (values[0], b"")
            request = request.with_header(name, token + carrier.separator.encode() + resolved.text().encode())
    return request
