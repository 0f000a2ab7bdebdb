"""`cheops scope check`, as a user sees it."""

import json

from click.testing import CliRunner, Result

from cheops.cli.scope import scope_commands


def check(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(scope_commands, ["check", *arguments], input=stdin)


def test_the_tree_is_readable() -> None:
    result = check("{prime: Site1, image:&around(Site1,10ms);(Site2), network: Site1%Site2, compute: Site3}")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "{image: &around(Site1, 10ms) ; Site2, network: Site1 % Site2, compute: Site3, prime: Site1}",
        "",
        "image",
        "  the first that can, of",
        "    a copy on each of the sites within 10ms of Site1",
        "    Site2",
        "network",
        "  one resource across",
        "    Site1",
        "    Site2",
        "compute",
        "  Site3",
        "prime",
        "  Site1",
    ]


def test_a_bare_location_and_nothing_at_all() -> None:
    assert check("A").stdout.splitlines()[2:] == ["the service that the request is for", "  A"]
    assert check("{}").stdout.splitlines() == ["{}", "", "everything local"]


def test_json() -> None:
    result = check("{image: A & (around(B, 1ms) ; C), prime: A}", "--json")
    around = {"around": {"centre": "B", "within_us": 1000, "spread": "first"}}
    location = {"replicas": [{"site": "A"}, {"otherwise": [around, {"site": "C"}]}]}
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "canonical": "{image: A & (around(B, 1ms) ; C), prime: A}",
        "tree": {"bindings": [{"service": "image", "location": location}], "prime": "A", "bare": None},
    }
    assert json.loads(check("A % B", "--json").stdout)["tree"]["bare"] == {"cross": [{"site": "A"}, {"site": "B"}]}


def test_standard_input() -> None:
    assert check("-", stdin='{"compute": "A;B"}\n').stdout.splitlines()[0] == "{compute: A ; B}"
    assert "column 5" in check("-", stdin=b"A & \xff\n").stderr


def test_a_mistake_goes_to_standard_error() -> None:
    result = check("{compute: Site1 & }")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("{compute: Site1 & }\n                  ^\ncolumn 19: a site is expected here")


def test_a_mistake_in_json() -> None:
    result = check("{compute: Site1 & }", "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    assert json.loads(result.stdout) == {
        "error": "site-expected",
        "position": 18,
        "column": 19,
        "message": "a site is expected here, not `}`",
        "hint": "write a name like Site1, or around(Site1, 10ms)",
    }
