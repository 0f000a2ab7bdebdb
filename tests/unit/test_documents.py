"""Files of the user's: every mistake is told with its file and line, and what would be right."""

from pathlib import Path
from textwrap import dedent
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationInfo, field_validator, model_validator

from cheops.documents import Document, Misplaced, mistake_in, parse_document, read_document
from cheops.errors import BadSettings


class Round(Document):
    kind: Literal["round"]
    radius: int = Field(ge=1)


class Square(Document):
    kind: Literal["square"]
    side: int
    colour: str = "red"

    @model_validator(mode="after")
    def _is_not_thirteen(self) -> "Square":
        if self.side == 13:
            raise Misplaced("thirteen brings bad luck; take twelve", "side")
        return self


class Box(Document):
    colour: str = "red"
    height: int = 1


class Things(Document):
    title: str
    box: Box = Box()
    boxes: dict[str, Box] = {}
    maybe: Box | None = None
    shapes: tuple[Annotated[Round | Square, Field(discriminator="kind")], ...] = ()

    @field_validator("title")
    @classmethod
    def _is_wanted(cls, title: str, info: ValidationInfo) -> str:
        unwanted = (info.context or {}).get("unwanted")
        if title == unwanted:
            raise ValueError(f"'{title}' isn't wanted")
        return title

    @model_validator(mode="after")
    def _has_no_box_of_its_title(self) -> "Things":
        if self.title in self.boxes:
            raise Misplaced("a box can't be called as all is", "boxes", self.title)
        return self


def read(text: str) -> Things:
    return parse_document(dedent(text), "things.yaml", Things)


def test_a_good_one() -> None:
    things = read("""
        title: all
        boxes: {a: {height: 3}}
        shapes: [{kind: round, radius: 2}, {kind: square, side: 4}]
    """)
    assert (things.boxes["a"].height, things.shapes[1]) == (3, Square(kind="square", side=4))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title: a\ntitel: b", "things.yaml:2: titel: 'titel' isn't a setting here; did you mean 'title'?"),
        (
            "title: a\nxyz: b",
            "things.yaml:2: xyz: 'xyz' isn't a setting here; there are: title, box, boxes, maybe, shapes",
        ),
        ("box:\n  height: 2", "things.yaml:1: title: 'title' is missing"),
        (
            "title: a\nbox:\n  heigth: 2",
            "things.yaml:3: box.heigth: 'heigth' isn't a setting here; did you mean 'height'?",
        ),
        (
            "title: a\nboxes:\n  one:\n    colour: x\n  two:\n    colr: x",
            "things.yaml:6: boxes.two.colr: 'colr' isn't a setting here; did you mean 'colour'?",
        ),
        (
            "title: a\nmaybe: {hight: 1}",
            "things.yaml:2: maybe.hight: 'hight' isn't a setting here; did you mean 'height'?",
        ),
        (
            "title: a\nshapes:\n- {kind: round, radius: 1}\n- kind: square\n  side: 1\n  color: x",
            "things.yaml:6: shapes.1.color: 'color' isn't a setting here; did you mean 'colour'?",
        ),
        (
            "title: a\nshapes:\n- kind: round\n  radius: 0",
            "things.yaml:4: shapes.0.radius: Input should be greater than or equal to 1 (it is 0)",
        ),
        ("title: a\nshapes:\n- kind: round", "things.yaml:3: shapes.0.radius: 'radius' is missing"),
        (
            "title: a\nshapes:\n- kind: oval",
            "things.yaml:3: shapes.0: Input tag 'oval' found using 'kind' does not match any of the expected tags: "
            "'round', 'square'",
        ),
        (
            "title: a\nbox:\n  height: tall",
            "things.yaml:3: box.height: Input should be a valid integer, unable to parse string as an integer "
            "(it is 'tall')",
        ),
        ("title:\nbox: {}", "things.yaml:1: title: Input should be a valid string"),
        ("title: no", "things.yaml:1: title: Input should be a valid string (it is False)"),
        (
            "title: a\nshapes:\n- kind: square\n  side: 13",
            "things.yaml:4: shapes.0.side: thirteen brings bad luck; take twelve",
        ),
        ("title: a\nboxes:\n  b: {}\n  a: {}", "things.yaml:4: boxes.a: a box can't be called as all is"),
        ("- a", "things.yaml:1: the file: Input should be a valid dictionary or instance of Things"),
        ("", "things.yaml:1: title: 'title' is missing"),
    ],
)
def test_mistakes(text: str, sentence: str) -> None:
    with pytest.raises(BadSettings) as caught:
        read(text)
    assert caught.value.detail == sentence


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(BadSettings) as caught:
        read("title: 1\nbox: {height: 0x, width: 2}\nx: 1")
    assert [line.split(": ")[0] for line in caught.value.detail.splitlines()] == [
        "things.yaml:1",
        "things.yaml:2",
        "things.yaml:2",
        "things.yaml:3",
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("title: a\ntitle: b", "things.yaml:2: 'title' stands here twice"),
        ("title: a\nboxes:\n  a: {}\n  b: {}\n  a: {}", "things.yaml:5: 'a' stands here twice"),
        ("title: a\nshapes:\n- kind: round\n  radius: 1\n  kind: round", "things.yaml:5: 'kind' stands here twice"),
    ],
)
def test_a_key_given_twice_is_a_mistake(text: str, where: str) -> None:
    with pytest.raises(BadSettings, match=where):
        read(text)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("title: [a", r"things.yaml:1:10: this isn't YAML: expected ',' or '\]'"),
        ("a: b: c", "things.yaml:1:5: this isn't YAML: mapping values are not allowed here"),
        ("[a]: b\n? [c]\n: d", "things.yaml:1:1: this isn't YAML: found unhashable key"),
        ("title: \x01", "things.yaml: this isn't YAML: unacceptable character"),
        ("!!python/object:os.system {}", "things.yaml:1:1: this isn't YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "things.yaml:2:1: this isn't YAML: but found another document"),
    ],
)
def test_what_is_not_yaml(text: str, where: str) -> None:
    with pytest.raises(BadSettings, match=where):
        read(text)


def test_an_alias_inside_what_it_names_ends_too() -> None:
    with pytest.raises(BadSettings, match="'title' is missing"):
        read("box: &it {height: *it}")


def test_context_reaches_the_validators() -> None:
    with pytest.raises(BadSettings, match="f:1: title: 'a' isn't wanted \\(it is 'a'\\)"):
        parse_document("title: a", "f", Things, unwanted="a")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"none\.yaml: can't be read: .*No such file"):
        read_document(tmp_path / "none.yaml", Things)
    (tmp_path / "bytes.yaml").write_bytes(b"title: \xff")
    with pytest.raises(BadSettings, match=r"bytes\.yaml: can't be read: 'utf-8'"):
        read_document(tmp_path / "bytes.yaml", Things)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "things.yaml"
    path.write_text("title: é\nbox:\n  height: 2\n", encoding="utf-8")
    assert read_document(path, Things).title == "é"
    told = mistake_in(path, Misplaced("too high", "box", "height"))
    assert told.detail == f"{path}:3: box.height: too high"
    assert mistake_in(path, Misplaced("there is none", "boxes", "a")).detail == f"{path}:1: boxes.a: there is none"


def test_a_document_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read("title: a").title = "b"
