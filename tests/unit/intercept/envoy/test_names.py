"""Values as Lua writes them, asked of LuaJIT itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime

from cheops.intercept.envoy.names import local, lua_value, site, typed

LUA = LuaRuntime(encoding=None)


def read(text: str) -> object:
    return LUA.eval(text.encode())


def read_text(value: str) -> bytes:
    found = read(lua_value(value))
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Site1", '"Site1"'),
        ("", '""'),
        ('a"b\\', '"a\\034b\\092"'),
        ("\n1", '"\\0101"'),  # three digits, so that the 1 isn't a fourth
        ("é", '"\\195\\169"'),
        (1023, "1023"),
        (-1, "-1"),
        (True, "true"),
        (None, "nil"),
        ({}, "{}"),
        ({"a b": 1, 2: "c"}, '{["a b"] = 1, [2] = "c"}'),
        (["a", True], '{"a", true}'),
        (("a",), '{"a"}'),
    ],
)
def test_each_kind(value: object, text: str) -> None:
    assert lua_value(value) == text
    read(text)


@given(st.text(st.characters(codec=None)))
def test_any_text_is_read_back(text: str) -> None:
    assert read_text(text) == text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("text", ["]]", "--", "%", "\r\n", "\0", "0\x001", '"..os.exit()..".', "\\", "\x7f", "\udc80"])
def test_texts_that_mean_something_elsewhere(text: str) -> None:
    assert read_text(text) == text.encode("utf-8", "surrogatepass")


@given(st.text(st.characters(codec=None)))
def test_what_is_written_is_plain_ascii_on_one_line(text: str) -> None:
    """It goes through JSON into Envoy."""
    assert all(" " <= character <= "~" for character in lua_value({text: text}))


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**31), 2**31) | st.booleans() | st.text(max_size=5)))
def test_tables_are_read_back(value: dict[str, int | bool | str]) -> None:
    table = read(lua_value(value))
    found = {key.decode(): item.decode() if isinstance(item, bytes) else item for key, item in table.items()}  # type: ignore[attr-defined]
    assert found == value


@pytest.mark.parametrize("value", [1.5, b"a", {1, 2}, [object()]])
def test_what_lua_has_not(value: object) -> None:
    with pytest.raises(TypeError, match="Lua has no"):
        lua_value(value)


def test_names_of_clusters_and_types() -> None:
    assert (local("catalog"), site("Site2")) == ("local/catalog", "site/Site2")
    assert typed("a.B", c=1) == {"@type": "type.googleapis.com/a.B", "c": 1}
