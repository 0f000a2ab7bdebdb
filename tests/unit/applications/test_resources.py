"""Resources in a description, the bundled descriptions, and errors as an application's clients read them."""

import json
from pathlib import Path

import pytest

from cheops.applications import Application, Errors, bundled, find_application, read_application
from cheops.documents import parse_document
from cheops.errors import BadSettings

OPENSTACK = read_application(bundled()["openstack"])


def described(resources: str) -> Application:
    return parse_document(f"services:\n  notes:\n    resources:\n      {resources}\n", "a.yaml", Application)


def mistake(resources: str) -> str:
    with pytest.raises(BadSettings) as caught:
        described(resources)
    return str(caught.value)


def test_a_collection_is_enough() -> None:
    note = described("note: {collection: /v1/notes}").services["notes"].resources["note"]
    assert (note.item_path, note.id, note.name, note.client_id) == ("/v1/notes/{id}", "id", "name", "ignored")
    assert (note.one, note.many, note.owners, dict(note.refers)) == (None, None, (), {})


def test_inside_others() -> None:
    resources = "{note: {collection: /notes}, page: {collection: '/notes/{note}/pages'}}"
    read = parse_document(f"services: {{notes: {{resources: {resources}}}}}", "a.yaml", Application)
    page = read.services["notes"].resources["page"]
    assert (page.owners, page.item_path) == (("note",), "/notes/{note}/pages/{id}")


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        ("note: {collection: notes}", "a.yaml:4: services.notes.resources.note.collection: "),
        ("Note: {collection: /notes}", "a.yaml:4: services.notes.resources.Note: "),
        ("note: {collection: '/notes/{id}'}", "a collection has no {id}"),
        ("note: {collection: '/books/{book}/notes'}", "there is no type 'book'"),
        ("note: {collection: /notes, item: /note}", "the path of one needs {id}"),
        ("note: {collection: /notes, content: {path: '/notes/{name}/file'}}", "the path of one needs {id}"),
        ("note: {collection: /notes, refers: {book_id: book}}", "refers.book_id: there is no type 'book'"),
        ("note: {collection: /notes, refers: {note_id: books/note}}", "there is no type 'books/note'"),
        ("note: {collection: /notes, refers: {'a b': note}}", "refers"),
        ("note: {collection: /notes, client_id: maybe}", "client_id"),
        ("note: {collection: /notes, methods: {PUT: patch}}", "methods.PUT"),
        ("note: {collection: /notes, methods: {DELETE: merge}}", "methods.DELETE"),
        ("note: {collection: /notes, name: null, unique_name: true}", "unique_name: there is no name"),
        ("note: {collection: /notes, follows: {field: status}}", "follows.done"),
        ("note: {collection: /notes, actions: [{path: /action}]}", "actions"),
        ("note: {collection: /notes, revision: [a b]}", "revision"),
    ],
)
def test_a_mistake_is_told_where_it_stands(resources: str, sentence: str) -> None:
    assert sentence in mistake(resources)


def test_what_isn_t_said_of_a_type() -> None:
    note = described("note: {collection: /v1/notes}").services["notes"].resources["note"]
    assert (note.methods, note.actions, note.set_by_site, note.revision, note.natural_key) == (
        {},
        (),
        (),
        (),
        ("name",),
    )
    assert (note.unique_name, note.follows, note.errors_in) == (False, None, None)
    assert (note.replaceable, note.session, note.moves) == (False, False, False)


def test_segments_that_are_the_same_everywhere_name_no_type() -> None:
    tag = described("tag: {collection: '/v2/{name*}/tags'}").services["notes"].resources["tag"]
    assert (tag.owners, tag.item_path) == ((), "/v2/{name*}/tags/{id}")


@pytest.mark.parametrize("name", list(bundled()))
def test_bundled_descriptions_can_be_read(name: str) -> None:
    read = read_application(bundled()[name])
    assert read.application == name
    for service in read.services.values():
        for kind, resource in service.resources.items():
            assert set(resource.methods.values()) <= {"merge", "action"}, kind
            assert resource.client_id != "refused" or not resource.replaceable, kind


def test_openstack() -> None:
    assert OPENSTACK.aliases["compute"] == ("nova",)
    assert [service.number for service in OPENSTACK.services.values()] == [1, 2, 3, 4, 5, 6]
    assert all(service.backend_port == (service.port or 0) + 10000 for service in OPENSTACK.services.values())
    assert OPENSTACK.request_id
    assert OPENSTACK.request_id.around == ("req-", "")
    assert OPENSTACK.token_suffix is None


def test_openstack_s_resources_are_as_seen() -> None:
    image = OPENSTACK.services["image"].resources["image"]
    assert (image.client_id, image.content and image.content.path) == ("accepted", "/v2/images/{id}/file")
    server = OPENSTACK.services["compute"].resources["server"]
    assert (server.one, server.many, server.client_id, server.refers["imageRef"]) == (
        "server",
        "servers",
        "refused",
        "image/image",
    )
    assert OPENSTACK.services["compute"].resources["keypair"].id == "name"
    volume = OPENSTACK.services["block-storage"].resources["volume"]
    assert volume.owners == ("identity/project",)


def test_a_bundled_description_is_found_by_its_name(tmp_path: Path) -> None:
    assert find_application("openstack", tmp_path) == bundled()["openstack"]
    assert find_application("shop.yaml", tmp_path) == tmp_path / "shop.yaml"
    assert find_application("./openstack", tmp_path) == tmp_path / "openstack"
    assert find_application("/etc/shop", tmp_path) == Path("/etc/shop")


def test_an_unknown_name_is_told_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        BadSettings, match=r"no description named 'opnstack' comes with Cheops; these do: .*openstack"
    ) as caught:
        find_application("opnstack", tmp_path)
    assert "opnstack.yaml or ./opnstack" in caught.value.hint


PROBLEM = {"title": "A site can't be reached", "status": 503, "detail": "Site2 can't be reached."}


def test_an_error_is_a_problem_document() -> None:
    assert Errors().fit(PROBLEM) == PROBLEM
    assert Errors().media_type == "application/problem+json"
    assert Errors().body(PROBLEM).endswith(b"}\n")


def test_an_error_has_its_sentence_where_clients_look() -> None:
    assert OPENSTACK.errors.media_type == "application/json"
    told = json.loads(OPENSTACK.errors.body(PROBLEM))
    assert told == {"error": {"message": "Site2 can't be reached."}, **PROBLEM}
    assert Errors(message="reason").fit(PROBLEM)["reason"] == "Site2 can't be reached."
