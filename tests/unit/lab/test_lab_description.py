"""lab.yaml: its places, its mistakes with file and line, and where applications are found."""

from pathlib import Path
from textwrap import dedent

import pytest

from cheops.documents import parse_document
from cheops.errors import BadSettings
from cheops.lab.description import LabDescription, fill, fill_file, find_app, known_places, read_app, unknown_places

NOTES = """\
needs: {json: "it is part of Python"}
processes:
  notes:
    command: ["{python}", "{folder}/notes.py", "{backend.notes}"]
    ready: http://{backend.notes}/
"""


def described(text: str) -> LabDescription:
    return parse_document(dedent(text), "lab.yaml", LabDescription, services=("notes",))


def mistake(text: str) -> str:
    with pytest.raises(BadSettings) as caught:
        described(text)
    return str(caught.value)


def folder_of(tmp_path: Path, lab: str = NOTES) -> Path:
    (tmp_path / "application.yaml").write_text("services: {notes: {port: 8600, backend_port: 18600}}\n")
    (tmp_path / "lab.yaml").write_text(lab)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{site}", "Site1"),
        ("http://{front.notes}/v1", "http://127.0.34.1:8600/v1"),
        ("{site}{site}", "Site1Site1"),
        ("{{site}}", "{site}"),
        ("{{{site}}}", "{{site}}"),
        ('{"customer": "Ada"}', '{"customer": "Ada"}'),
        ("X-Scope: {notes: Site2}", "X-Scope: {notes: Site2}"),
        ("{}{ site }", "{}{ site }"),
    ],
)
def test_a_place_is_filled_in_and_nothing_else_changes(text: str, filled: str) -> None:
    assert fill(text, {"site": "Site1", "front.notes": "127.0.34.1:8600"}) == filled


def test_known_places_are_the_site_and_both_ends_of_each_service() -> None:
    known = known_places(["notes", "mail-out"])
    assert known[:8] == ["python", "folder", "site", "address", "data", "cache", "shared", "sites"]
    assert known[8:] == ["front.notes", "backend.notes", "front.mail-out", "backend.mail-out"]
    assert unknown_places("{front.mail-out} {front.mail} {{x}} {sight}", known) == ["front.mail", "sight"]


def test_an_unknown_place_is_told_with_line_and_the_known_ones() -> None:
    told = mistake("""\
        processes:
          notes:
            command:
              - run
              - "{backend.note}"
        """)
    assert told.startswith("lab.yaml:5: processes.notes.command.1: the lab doesn't know {backend.note}; it fills in {")
    assert "{backend.notes}" in told


@pytest.mark.parametrize(
    "field",
    ["ready: 'http://{x}/'", "files: {'{x}': a}", "files: {a: '{x}'}"],
)
def test_places_are_checked_wherever_they_may_stand(field: str) -> None:
    told = mistake(f"processes:\n  notes:\n    command: [run]\n    {field}\n")
    assert told.startswith("lab.yaml:4: ")
    assert "{x}" in told


@pytest.mark.parametrize("field", ["after: [run, '{x}']", "before: [run, '{x}']", "tour: ['curl {x}']"])
def test_places_are_checked_outside_the_processes_too(field: str) -> None:
    assert "{x}" in mistake(f"processes: {{notes: {{command: [run]}}}}\n{field}\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("processes: {}", "processes"),
        ("processes: {notes: {command: []}}", "command"),
        ("processes: {notes: {}}", "'command' is missing"),
        ("processes: {agent: {command: [run]}}", "means something else in a lab"),
        ("processes: {a/b: {command: [run]}}", "letters, digits"),
        ("processes: {notes: {command: [run], ready: 'localhost:80'}}", "http://"),
        ("processes: {notes: {comand: [run]}}", "did you mean 'command'?"),
        ("processes: {before: {command: [run]}}", "means something else in a lab"),
        (
            "processes: {notes: {command: [run], after: [mail]}}",
            "'mail' is no process above this one; there are: agent",
        ),
        ("processes: {a: {command: [run], after: [b]}, b: {command: [run]}}", "there are: agent"),
        ("processes: {notes: {command: [run]}}\nready_within: 0", "greater than 0"),
    ],
)
def test_mistakes_say_what_would_be_right(text: str, what: str) -> None:
    told = mistake(text)
    assert told.startswith(f"lab.yaml:{1 + text.count(chr(10))}: ")
    assert what in told


@pytest.mark.parametrize(
    ("field", "where"),
    [
        ("install: [run, '{python} {folder} {cache}', '{data}']", "lab.yaml:3: install.2"),
        (
            "shared: {processes: {db: {command: [run, '{data} {address} {sites} {site}']}}}",
            "lab.yaml:3: shared.processes",
        ),
        ("shared: {before: ['{backend.notes}'], processes: {db: {command: [run]}}}", "lab.yaml:3: shared.before"),
    ],
)
def test_what_all_sites_share_names_no_site(field: str, where: str) -> None:
    told = mistake(f"processes:\n  notes: {{command: [run]}}\n{field}\n")
    assert told.startswith(where)
    assert "the lab doesn't know {" in told


def test_a_process_may_come_after_others_and_after_the_fronts() -> None:
    read = described("""\
        processes:
          notes: {command: [run], ready: tcp://127.0.0.1:80}
          mail: {command: [run], after: [notes, agent], ready: ["{python}", "{folder}/ready.py"]}
        """)
    assert read.processes["mail"].after == ("notes", "agent")
    assert read.processes["mail"].ready == ("{python}", "{folder}/ready.py")


BUNDLED = """\
application: openstack
services: [image, identity]
processes: {glance: {command: [run, "{backend.image}"]}}
"""


def test_a_bundled_description_and_some_of_its_services(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(BUNDLED)
    app = read_app(tmp_path)
    assert (app.description, app.services) == ("openstack", ("image", "identity"))
    (tmp_path / "lab.yaml").write_text(BUNDLED.replace("[image,", "[imago,"))
    with pytest.raises(
        BadSettings, match=r"lab\.yaml:2: services\.0: openstack has no such service; it has: identity, "
    ):
        read_app(tmp_path)
    (tmp_path / "lab.yaml").write_text(BUNDLED.replace("{backend.image}", "{backend.compute}"))
    with pytest.raises(BadSettings, match=r"the lab doesn't know \{backend\.compute\}"):
        read_app(tmp_path)


def test_credentials_are_those_of_site_yaml(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(BUNDLED + 'credentials: {image: {kind: header, value: "{}"}}\n')
    assert read_app(tmp_path).lab.credentials == {"image": {"kind": "header", "value": "{}"}}


def test_a_file_is_filled_in_or_told_with_its_line(tmp_path: Path) -> None:
    template = tmp_path / "notes.ini"
    template.write_text("[notes]\nlisten = {address}\nformat = {{time}}\n")
    assert fill_file(template, {"address": "127.0.34.1"}) == "[notes]\nlisten = 127.0.34.1\nformat = {time}\n"
    with pytest.raises(BadSettings, match=r"notes\.ini:2: the lab doesn't know \{address\}; it fills in \{site\}"):
        fill_file(template, {"site": "Site1"})
    with pytest.raises(BadSettings, match="can't be read"):
        fill_file(tmp_path / "nothing", {})


def test_an_application_is_read_with_both_its_files(tmp_path: Path) -> None:
    app = read_app(folder_of(tmp_path))
    assert list(app.application.services) == ["notes"]
    assert list(app.lab.processes) == ["notes"]
    assert (app.description, app.services) == (str(tmp_path / "application.yaml"), ("notes",))


def test_a_module_that_is_missing_is_told_with_what_to_do(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NOTES + "after: [run]\n")
    (folder / "lab.yaml").write_text(NOTES.replace("json:", "no.such.module:"))
    with pytest.raises(BadSettings, match=r"'no\.such\.module'\nit is part of Python"):
        read_app(folder)


def test_an_application_is_an_example_or_a_folder(tmp_path: Path) -> None:
    assert find_app("shop").name == "shop"
    assert read_app(find_app("shop")).application.application == "shop"
    assert find_app(str(tmp_path)) == tmp_path.resolve()
    with pytest.raises(BadSettings, match=r"neither an example \(.*shop.*\) nor a folder"):
        find_app(str(tmp_path / "nothing"))
