"""Finds the scope of a request: X-Scope, the prefix /~scope/…, baggage, a marked request id, a token's suffix.

The first of them counts. intercept/envoy/scope.lua finds the same, and leaves to us what isn't clear at sight.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from cheops.applications import Application, RequestIdCarrier, TokenSuffixCarrier
from cheops.carry.request_id import Bindings, KeptBy, decode
from cheops.errors import BadRequest, BadScope
from cheops.model import Request

PREFIX = b"/~scope/"
HEADER = b"x-scope"
BAGGAGE = b"baggage"
_IN_PATH = re.compile(rb"([^/?#]+)(/.*)", re.DOTALL)
_HALF_AN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """What was found: the text of a scope, or what a request id carries (with its UUID), or nothing.

    `request` is the request without what only Cheops understands: the prefix, and the suffix where it is cut.
    """

    request: Request
    text: str | None = None
    by_id: Bindings | KeptBy | None = None
    uuid: str = ""


def read_carried(request: Request, application: Application) -> Carried:
    """The scope of a request. Raises BadRequest or BadScope when what carries it can't be read."""
    text, request = _in_path(request)
    stated = _in_header(request)
    if text is not None and stated is not None and text.split() != stated.split():
        raise BadRequest("the scope is given twice, in the URL and in X-Scope", hint="Give it once.")
    text = text if text is not None else stated
    text = text if text is not None else _in_baggage(request)
    by_id, uuid = in_request_id(request, application.request_id) if text is None else (None, "")
    suffix, request = _in_token(request, application.token_suffix)
    if text is None and by_id is None and suffix is not None:
        text = _text(suffix, "a token")
    return Carried(request=request, text=text, by_id=by_id, uuid=uuid)


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise BadScope(
            f"the scope in {where} isn't UTF-8 text", hint="Names are letters, digits, '_', '.', '-'."
        ) from error


def _in_path(request: Request) -> tuple[str | None, Request]:
    if not request.target.startswith(PREFIX):
        return None, request
    found = _IN_PATH.fullmatch(request.target, len(PREFIX))
    if not found:
        raise BadRequest(
            "a URL with a scope is written /~scope/SCOPE/…", hint="SCOPE is percent-encoded, '/' follows it."
        )
    if _HALF_AN_ESCAPE.search(found[1]):
        raise BadRequest("the scope in the URL isn't percent-encoded", hint="Write % itself as %25.")
    return _text(unquote_to_bytes(found[1]), "the URL"), replace(request, target=found[2])


def _in_header(request: Request) -> str | None:
    values = request.values(HEADER)
    if len(values) > 1:
        raise BadRequest("the header X-Scope is given twice", hint="Put all bindings into one: {a: Site1, b: Site2}.")
    return _text(values[0], "X-Scope") if values else None


def _in_baggage(request: Request) -> str | None:
    """W3C Baggage: members are separated by commas, their properties follow a semicolon, values are percent-encoded."""
    found = []
    for member in b",".join(request.values(BAGGAGE)).split(b","):
        if is_scope(member):
            _, _, value = member.partition(b";")[0].partition(b"=")
            found.append(_text(unquote_to_bytes(value.strip()), "baggage"))
    if len(found) > 1:
        raise BadRequest("the baggage has the member 'scope' twice", hint="Give it once.")
    return found[0] if found else None


def is_scope(member: bytes) -> bool:
    """Whether a member of baggage is the scope."""
    return member.partition(b";")[0].partition(b"=")[0].strip() == b"scope"


def in_request_id(request: Request, carrier: RequestIdCarrier | None) -> tuple[Bindings | KeptBy | None, str]:
    """What the request id carries, and its UUID; nothing if it isn't marked."""
    values = request.values(carrier.header.lower().encode()) if carrier else []
    if not carrier or len(values) != 1:
        return None, ""
    before, after = carrier.around
    value = values[0].decode("latin1")
    if not (value.startswith(before) and value.endswith(after)):
        return None, ""
    uuid = value[len(before) : len(value) - len(after)]
    carries = decode(uuid)
    return carries, uuid if carries else ""


def _in_token(request: Request, carrier: TokenSuffixCarrier | None) -> tuple[bytes | None, Request]:
    found = None
    for name in carrier.headers if carrier else ():
        key = name.lower().encode()
        values = request.values(key)
        if carrier and len(values) == 1 and (parts := split_token(values[0], carrier)):
            token, suffix = parts
            found = found if found is not None else suffix
            if request.service in carrier.cut_at:
                request = request.with_header(key, token)
    return found, request


def split_token(value: bytes, carrier: TokenSuffixCarrier) -> tuple[bytes, bytes] | None:
    """A token and the scope behind it; None if it has none."""
    token, found, rest = value.rpartition(carrier.separator.encode() + b"{")
    return (token, b"{" + rest) if found and value.endswith(b"}") else None
