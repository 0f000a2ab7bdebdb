"""The options among the client's own, and the commands that have a `--scope` themselves."""

import argparse
import inspect
from importlib.metadata import entry_points
from typing import Any

import pytest
from cliff.command import Command

from cheops_openstackclient.plugin import SEND_SCOPE, build_option_parser

OURS = ("--scope", "--os-scope", "--cheops-admin")


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    monkeypatch.delenv("OS_SCOPE", raising=False)
    monkeypatch.delenv("CHEOPS_ADMIN", raising=False)
    clients = argparse.ArgumentParser(prog="openstack", add_help=False)
    clients.add_argument("--os-cloud", dest="cloud")
    return build_option_parser(clients)


def test_a_scope_asks_for_the_hook_that_sends_it(parser: argparse.ArgumentParser) -> None:
    found, rest = parser.parse_known_args(
        ["--os-cloud", "mine", "server", "list", "--scope", "{image:Site2}", "--long"]
    )
    assert (found.cloud, found.cheops_scope, found.vendor_hook) == ("mine", ["{image: Site2}"], SEND_SCOPE)
    assert rest == ["server", "list", "--long"]


def test_without_one_the_clouds_settings_stay_as_they_are(parser: argparse.ArgumentParser) -> None:
    found, _ = parser.parse_known_args(["server", "list"])
    assert (found.cheops_scope, found.vendor_hook) == (None, None)


def test_no_text_is_a_mistake(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_known_args(["server", "list", "--scope", ""])
    assert ended.value.code == 2
    assert "the scope is empty" in capsys.readouterr().err


def test_a_command_keeps_a_scope_of_its_own(parser: argparse.ArgumentParser) -> None:
    command = ["optimize", "audittemplate", "create", "mine", "goal"]
    found, rest = parser.parse_known_args(["--scope", "Site1", *command, "--scope", "/a/file.yaml", "--scope=b"])
    assert found.cheops_scope == ["Site1"]
    assert rest == [*command, "--scope", "/a/file.yaml", "--scope=b"]


def test_ours_may_still_stand_after_its_name_as_os_scope(parser: argparse.ArgumentParser) -> None:
    command = ["optimize", "audittemplate", "create", "mine", "goal"]
    found, rest = parser.parse_known_args([*command, "--scope", "file.yaml", "--os-scope", "Site1"])
    assert (found.cheops_scope, rest) == (["Site1"], [*command, "--scope", "file.yaml"])


@pytest.mark.filterwarnings("ignore")  # what the client's own modules say of one another
def test_no_other_command_that_is_installed_has_an_option_like_ours() -> None:
    """Nor a shorter one that the client's own options would be taken to mean."""
    groups = [group for group in entry_points().groups if group.startswith("openstack.")]
    commands = {point.value: point for group in groups for point in entry_points(group=group)}
    loaded = [point.load() for point in commands.values()]
    classes = [each for each in loaded if inspect.isclass(each) and issubclass(each, Command)]
    options = {option for each in classes for option in _parser(each)._option_string_actions}
    assert len(classes) > 500
    assert not [option for option in options if option.startswith("--") and any(o.startswith(option) for o in OURS)]


class _Anything:
    """An application for commands that ask it which services there are before they say what options they have."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *_: object) -> Any:
        return self


def _parser(command: type[Command]) -> argparse.ArgumentParser:
    return command(_Anything(), None).get_parser("openstack")  # type: ignore[arg-type]
