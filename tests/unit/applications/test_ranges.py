"""Ranges of addresses, as numbers."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cheops.applications.ranges import Range, apart, as_value, hosts, joined, network_of, piece, ranges_of, without


@pytest.mark.parametrize(
    ("network", "listed"),
    [
        ("10.0.0.0/29", [{"start": "10.0.0.1", "end": "10.0.0.6"}]),
        ("10.0.0.0/30", [{"start": "10.0.0.1", "end": "10.0.0.2"}]),
        ("10.0.0.0/31", []),
        ("10.0.0.1/32", []),
        ("2001:db8::/126", [{"start": "2001:db8::1", "end": "2001:db8::3"}]),
        ("2001:db8::1/128", []),
    ],
)
def test_what_can_be_given_to_hosts(network: str, listed: list[dict[str, str]]) -> None:
    assert as_value(hosts(ip_network(network))) == listed
    assert as_value(ranges_of(listed) or ()) == listed


@pytest.mark.parametrize("said", [None, "10.0.0.0", "10.0.0.1/24", "10.0.0.0/33", 5, ["10.0.0.0/24"], "/", "a/8"])
def test_what_is_no_network(said: Any) -> None:
    assert network_of(said) is None


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        [5],
        [{"start": "10.0.0.1"}],
        [{"start": 1, "end": 2}],
        [{"start": "10.0.0.1", "end": "10.0.0.9"}, {"start": "10.0.0.12", "end": "::1"}],
    ],
)
def test_what_is_no_list_of_ranges(said: Any) -> None:
    assert ranges_of(said) is None


def test_ranges_are_joined_cut_and_counted_off() -> None:
    low, middle, high, other = Range(4, 1, 4), Range(4, 5, 9), Range(4, 20, 29), Range(6, 10, 12)
    assert joined([other, high, middle, low]) == [Range(4, 1, 9), high, other]
    assert joined([Range(4, 1, 9), middle]) == [Range(4, 1, 9)]
    assert apart([high, low, other, middle])
    assert not apart([high, Range(4, 9, 20)])
    assert without([low, high], ip_address("0.0.0.4")) == [Range(4, 1, 3), high]
    assert without([low, other], ip_address("::a")) == [low, Range(6, 11, 12)]
    assert without([Range(4, 7, 7)], ip_address("0.0.0.7")) == []
    assert piece([middle, high], 3, 4) == [Range(4, 8, 9), Range(4, 20, 21)]
    assert piece([middle, high], 14, 4) == [Range(4, 29, 29)]
