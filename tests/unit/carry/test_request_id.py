"""The request id that carries bindings: its shape, and what is read back."""

import re
import secrets
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cheops.carry.request_id import Bindings, KeptBy, decode, encode, encode_kept
from values import digits

ONE = "c4e01040-2012-8345-8678-9abcdef01234"
numbers = st.lists(st.tuples(st.integers(1, 62), st.integers(1, 1023)), min_size=1, max_size=4)


def test_the_digits_stand_where_the_docstring_says() -> None:
    assert encode([(1, 2)], digits()) == ONE  # c4e0 1 0402, then random digits around version and variant
    assert encode([(62, 1023), (1, 1)], digits("0")) == "c4e02fbf-f040-8100-8000-000000000000"
    assert encode_kept(0x3FF, digits("0")) == "c4e0f3ff-0000-8000-8000-000000000000"


@given(numbers)
def test_bindings_are_read_back(bound: list[tuple[int, int]]) -> None:
    assert decode(encode(bound, digits())) == Bindings(numbers=tuple(bound))


@given(st.integers(1, 1023))
def test_so_is_the_keeper(site: int) -> None:
    assert decode(encode_kept(site, digits())) == KeptBy(site=site)


@given(numbers, st.text("0123456789abcdef", min_size=30, max_size=30))
def test_it_is_a_uuid_of_version_8(bound: list[tuple[int, int]], random: str) -> None:
    for text in (encode(bound, digits(random)), encode_kept(bound[0][1], digits(random))):
        read = uuid.UUID(text)
        assert (read.version, read.variant) == (8, uuid.RFC_4122)
        assert str(read) == text


def test_all_variants_of_rfc_9562_occur_and_random_digits_fill_the_rest() -> None:
    made = [encode([(1, 2)], lambda count: secrets.token_hex(count)[:count]) for _ in range(200)]
    assert len(set(made)) == 200
    assert {text[19] for text in made} == set("89ab")
    assert {decode(text) for text in made} == {Bindings(numbers=((1, 2),))}


def test_more_than_four_bindings_do_not_fit() -> None:
    with pytest.raises(ValueError, match="carries at most 4 bindings, not 5"):
        encode([(1, 1)] * 5, digits())


def test_no_binding_is_no_mark() -> None:
    assert decode(encode([], digits())) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "req-" + ONE,
        ONE.upper(),
        ONE[:-1],
        ONE + "0",
        ONE.replace("-", ""),
        f" {ONE}",
        f"{ONE}\n",
        ONE[:14] + "7" + ONE[15:],  # another version
        ONE[:19] + "c" + ONE[20:],  # another variant
        "c4e1" + ONE[4:],  # another mark
        "c4e00" + ONE[5:],  # no bindings
        "c4e05" + ONE[5:],  # more than fit
        "c4e0e" + ONE[5:],
        "3f2b8a4c-9d1e-4f60-8a7b-2c3d4e5f6a7b",
    ],
)
def test_what_is_not_marked_carries_nothing(text: str) -> None:
    assert decode(text) is None


@given(st.text())
def test_any_text_can_be_asked(text: str) -> None:
    assert decode(text) is None or re.fullmatch(r"[0-9a-f-]{36}", text)
