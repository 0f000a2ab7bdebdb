"""`cheops site init`, `invite` and `join`, as whoever makes sites sees them."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cheops.cli import cheops
from cheops.config import read_site
from cheops.errors import BadSettings
from cheops.sites.invitation import read_token

SERVICE = ("--service", "orders=127.0.0.1:8080,127.0.0.1:18080")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cheops, ["site", *arguments], input=stdin)


def done(*arguments: str, stdin: str = "") -> Result:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


def fails(*arguments: str, stdin: str = "") -> str:
    result = run(*arguments, stdin=stdin)
    assert isinstance(result.exception, BadSettings), result.output
    return str(result.exception)


def test_a_site_is_invited_and_joins() -> None:
    done("init", "Site1", "--address", "10.0.0.1", *SERVICE)
    invited = done("invite", "Site2")
    assert "cheops site join -" in invited.stderr
    assert read_token(invited.stdout).number == 2
    joined = done("join", invited.stdout.strip(), "--address", "10.0.0.2", *SERVICE)
    assert joined.stdout == "Site2/site.yaml describes Site2, number 2.\n" + (
        "Start it:  cheops agent --config Site2/site.yaml\n"
    )
    site = read_site(Path("Site2/site.yaml"))
    assert (str(site.settings.mesh.listen), str(site.settings.peers["Site1"].mesh)) == (
        "10.0.0.2:7443",
        "10.0.0.1:7443",
    )
    assert stat.S_IMODE(Path("Site2/tls/site.key").stat().st_mode) == 0o600


def test_a_token_comes_by_standard_input_too_as_a_terminal_broke_it() -> None:
    token = done("invite", "Site2", "--number", "7").stdout
    broken = "\n".join(token[at : at + 79] for at in range(0, len(token), 79))
    done("join", "-", "--address", "10.0.0.2", "--folder", "elsewhere", *SERVICE, stdin=broken)
    assert read_site(Path("elsewhere/site.yaml")).settings.number == 7


def test_joining_makes_no_deployment() -> None:
    """The authority's key stays where it is."""
    token = done("invite", "Site2", "--deployment", "far/away").stdout
    done("join", token, "--address", "10.0.0.2", *SERVICE)
    assert sorted(path.name for path in Path().iterdir()) == ["Site2", "far"]
    assert {path.name for path in Path("Site2").rglob("*.key")} == {"site.key"}


def test_who_is_known_is_invited_on_demand_only() -> None:
    done("invite", "Site2")
    assert fails("invite", "Site2").startswith("Site2 is a site of this deployment already, with number 1")
    assert read_token(done("invite", "Site2", "--again").stdout).number == 1


@pytest.mark.parametrize("name", ["Site 2", "../x", ""])
def test_a_name_that_is_none(name: str) -> None:
    assert fails("invite", name).startswith(f"'{name}' is no name of a site: ")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("token", ["", "cheops1.abc", "hello"])
def test_a_token_that_is_none(token: str) -> None:
    told = fails("join", "-", "--address", "10.0.0.2", *SERVICE, stdin=token)
    assert told.startswith("this is no token of `cheops site invite`")
    assert told.endswith("Copy the whole of it; it is one word.")
    assert list(Path().iterdir()) == []


def test_what_runs_there_has_to_be_said() -> None:
    token = done("invite", "Site2").stdout
    result = run("join", token, "--address", "10.0.0.2")
    assert result.exit_code == 2
    assert "--application FILE, or --service NAME=FRONT,BACKEND" in result.stderr
    assert not Path("Site2").exists()


@pytest.mark.parametrize("service", ["orders", "orders=127.0.0.1:1", "orders=a,b", "=,"])
def test_a_service_has_two_addresses(service: str) -> None:
    told = fails("init", "Site1", "--address", "10.0.0.1", "--service", service)
    assert told.startswith(f"--service {service}: an address is written host:port")
    assert told.endswith("Write it NAME=FRONT,BACKEND.")


def test_a_site_is_not_joined_over_another() -> None:
    token = done("invite", "Site2").stdout
    done("join", token, "--address", "10.0.0.2", *SERVICE)
    assert "there is a site already" in fails("join", token, "--address", "10.0.0.3", *SERVICE)
