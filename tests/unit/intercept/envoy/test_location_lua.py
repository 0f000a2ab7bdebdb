"""location.lua in LuaJIT: what a service says of its own address becomes the front that the client used."""

from functools import cache

import pytest

from cheops.intercept.envoy.lua import location_script
from envoy_lua import Script
from values import SHOP, headers_of, site_of

FRONT, BACKEND = "127.0.0.1:8001", "127.0.0.1:18001"  # of catalog, as site_of makes them up


@cache
def script(service: str) -> Script:
    return Script(location_script(site_of(SHOP), service))


def mended(
    location: str,
    *,
    service: str = "catalog",
    authority: str = "shop.example",
    prefix: str | None = None,
    request: list[tuple[str, str]] | None = None,
) -> str:
    asked = headers_of([(":authority", authority), *(request or [])])
    answered = script(service).mend(asked, headers_of([("a", "b"), ("location", location)]), prefix)
    assert answered[0] == (b"a", b"b")
    ((_, value),) = answered[1:]
    return value.decode()


@pytest.mark.parametrize(
    ("location", "as_mended"),
    [
        (f"http://{BACKEND}/v1/a?b#c", "http://shop.example/v1/a?b#c"),
        (f"https://{BACKEND}/v1/a", "http://shop.example/v1/a"),
        (f"http://{FRONT}/v1/a", "http://shop.example/v1/a"),
        (f"http://{BACKEND}", "http://shop.example"),
        ("http://SHOP.example/v1", "http://shop.example/v1"),
        ("http://elsewhere.example/v1", "http://elsewhere.example/v1"),
        (f"http://x@{BACKEND}/v1", f"http://x@{BACKEND}/v1"),
        (f"ftp://{BACKEND}/v1", f"ftp://{BACKEND}/v1"),
        ("//elsewhere.example/v1", "//elsewhere.example/v1"),
        ("/v1/a", "/v1/a"),
        ("a/b", "a/b"),
        ("?page=2", "?page=2"),
        ("", ""),
    ],
)
def test_a_location(location: str, as_mended: str) -> None:
    assert mended(location) == as_mended


@pytest.mark.parametrize(
    ("location", "as_mended"),
    [
        (f"http://{BACKEND}/v1/a", "http://shop.example/~scope/Site2/v1/a"),
        ("http://shop.example/v1/a", "http://shop.example/~scope/Site2/v1/a"),
        ("http://elsewhere.example/v1", "http://elsewhere.example/v1"),
        ("/v1/a", "/~scope/Site2/v1/a"),
        ("/~scope/Site2/v1/a", "/~scope/Site2/v1/a"),
        ("/~scope/Site22/v1/a", "/~scope/Site2/~scope/Site22/v1/a"),
        ("a/b", "a/b"),
        ("//elsewhere.example/v1", "//elsewhere.example/v1"),
    ],
)
def test_under_a_prefix_it_keeps_the_scope(location: str, as_mended: str) -> None:
    assert mended(location, prefix="/~scope/Site2") == as_mended


def test_the_scheme_is_that_of_the_client() -> None:
    assert mended(f"http://{BACKEND}/a", request=[("x-forwarded-proto", "https")]) == "https://shop.example/a"


def test_a_service_names_itself_and_no_other() -> None:
    of_orders = "http://127.0.0.1:18002/a"
    assert mended(of_orders, service="orders") == "http://shop.example/a"
    assert mended(of_orders, service="catalog") == of_orders


@pytest.mark.parametrize("locations", [[], [f"http://{BACKEND}/a"] * 2])
def test_none_or_two_are_left_alone(locations: list[str]) -> None:
    response = headers_of([("location", value) for value in locations])
    assert script("catalog").mend(headers_of([(":authority", "x")]), response) == response
