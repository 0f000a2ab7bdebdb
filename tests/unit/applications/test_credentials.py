"""What of a request is never written down."""

import pytest

from cheops.applications import Application
from cheops.applications.credentials import recordable, refuse_secrets, secret_headers
from cheops.documents import parse_document
from cheops.errors import BadRequest
from unit.applications.known import OPENSTACK

NOTES = parse_document("services: {notes: {credentials: {headers: [X-Badge]}}, other: {}}", "a.yaml", Application)
SECRETS = (
    b"authorization",
    b"cookie",
    b"x-auth-token",
    b"x-service-token",
    b"x-api-key",
    b"x-amz-signature",
    b"x-passwd",
)
PASSING = (
    *(b"connection", b"x-hop", b"te", b"host", b"content-length", b"expect", b"transfer-encoding"),
    *(b"if-match", b"if-none-match", b"if-unmodified-since", b"cheops-dependencies", b"x-scope", b"baggage"),
    *(b"x-request-id", b"forwarded", b"x-forwarded-for", b"via", b"traceparent", b"prefer", b"accept-encoding"),
)
KEPT = (b"content-type", b"accept", b"content-range", b"x-openstack-nova-api-version", b"idempotency-key")


@pytest.mark.parametrize("name", SECRETS)
def test_secrets(name: bytes) -> None:
    headers = ((name, b"s3cret"), (b"accept", b"*/*"))
    assert secret_headers(headers, "notes", NOTES) == ((name, b"s3cret"),)
    assert recordable(headers, "notes", NOTES) == (("accept", "*/*"),)


@pytest.mark.parametrize("name", PASSING)
def test_what_holds_for_one_hop_or_one_site(name: bytes) -> None:
    headers = ((name, b"x-hop, close"), (b"connection", b"close, X-Hop"))
    assert recordable(headers, "notes", NOTES) == ()
    assert secret_headers(headers, "notes", NOTES) == ()


def test_all_else_is_kept_in_order() -> None:
    headers = tuple((name, b"\xe9") for name in (*KEPT, *KEPT))
    assert recordable(headers, "notes", NOTES) == tuple((name.decode(), "é") for name in (*KEPT, *KEPT))


def test_a_service_names_others() -> None:
    badge = ((b"x-badge", b"7"),)
    assert (secret_headers(badge, "notes", NOTES), recordable(badge, "notes", NOTES)) == (badge, ())
    assert (secret_headers(badge, "other", NOTES), recordable(badge, "other", NOTES)) == ((), (("x-badge", "7"),))


def test_the_carriers_of_a_scope_aren_t_kept() -> None:
    assert recordable(((b"x-openstack-request-id", b"req-1"),), "compute", OPENSTACK) == ()


@pytest.mark.parametrize("query", ["token=1", "X-Amz-Signature=1", "a=b&api_key", "a=1&pass%77ord=x", "Access-Token="])
def test_secrets_in_a_query_are_refused(query: str) -> None:
    with pytest.raises(BadRequest) as caught:
        refuse_secrets(f"/notes?{query}")
    assert "header" in caught.value.hint


def test_other_parameters_pass() -> None:
    refuse_secrets("/token/secret?digest=sha256:1&name=token")
    refuse_secrets(b"/notes")
