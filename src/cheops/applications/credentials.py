"""What of a request is a secret or belongs to one hop or one site, and so is never written down.

What this does not promise: that a service has no secrets in bodies.
"""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from cheops.applications.description import Application
from cheops.applications.paths import as_text
from cheops.errors import BadRequest
from cheops.model import Headers

SECRET = re.compile(rb"auth|cookie|key|passw|secret|signature|token")
"""Somewhere in the name of a header or of a query's parameter."""
_CREDENTIALS = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"x-auth-token", b"x-subject-token", b"x-service-token"}
)
_NO_SECRETS = frozenset({b"idempotency-key"})
_OF_THE_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host"}
    | {b"content-length", b"expect", b"via", b"forwarded", b"x-real-ip", b"date", b"accept-encoding", b"prefer"}
)
_OF_THE_WAY = frozenset({b"x-scope", b"baggage", b"x-request-id", b"traceparent", b"tracestate"})
_BEGINNINGS = (b"if-", b"cheops-", b"x-forwarded-", b"x-envoy-", b"x-b3-")


def secret_headers(headers: Headers, service: str, application: Application) -> Headers:
    """The headers that are credentials."""
    return tuple(pair for pair in headers if _is_secret(pair[0], service, application))


def recordable(headers: Headers, service: str, application: Application) -> tuple[tuple[str, str], ...]:
    """The headers that may be written down: no credentials, and nothing that holds for one hop or one site only."""
    named = {word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")}
    dropped = _OF_THE_HOP | _OF_THE_WAY | named | set(_carriers(application))
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in dropped and not name.startswith(_BEGINNINGS) and not _is_secret(name, service, application)
    )


def refuse_secrets(target: bytes | str) -> None:
    """Raises BadRequest if the query has something that may not be written down."""
    for name, _ in parse_qsl(as_text(target).partition("?")[2], keep_blank_values=True):
        if SECRET.search(name.lower().encode()):
            raise BadRequest(
                f"the parameter '{name}' of the query looks like a secret, and what is replicated is written down",
                hint="Send it in a header, such as Authorization: headers that are secrets are never written down.",
            )


def _is_secret(name: bytes, service: str, application: Application) -> bool:
    if name in _CREDENTIALS:
        return True
    described = application.services.get(service)
    if described and name.decode("latin-1") in {header.lower() for header in described.credentials.headers}:
        return True
    return name not in _NO_SECRETS and SECRET.search(name) is not None


def _carriers(application: Application) -> Iterator[bytes]:
    if application.request_id:
        yield application.request_id.header.lower().encode()
    if application.token_suffix:
        yield from (name.lower().encode() for name in application.token_suffix.headers)
