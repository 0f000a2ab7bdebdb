"""Which fields a merge touches."""

import pytest

from cheops.record.merging import touched

MERGE = "application/merge-patch+json"
GLANCE = "application/openstack-images-v2.1-json-patch"


@pytest.mark.parametrize(
    ("body", "media_type", "paths"),
    [
        (b'{"a": 1, "b": {"c": null, "d": [1]}}', MERGE, {"a", "b.c", "b.d"}),
        (b'{"a": {}}', "application/json; charset=utf-8", {"a"}),
        (b'[{"op": "replace", "path": "/a/b", "value": 1}]', "application/json-patch+json", {"a.b"}),
        (b'[{"op": "add", "path": "/tags/-", "value": "x"}]', GLANCE, {"tags"}),
        (b'[{"op": "move", "from": "/a", "path": "/b~1c"}]', GLANCE, {"a", "b/c"}),
        (b'[{"op": "replace", "path": "", "value": 1}]', GLANCE, None),
        (b'[{"op": "replace"}]', GLANCE, None),
        (b'{"": 1}', MERGE, None),
        (b"[1]", MERGE, None),
        (b"not json", MERGE, None),
        (b'{"a": 1}', "text/plain", None),
    ],
)
def test_the_leaf_fields_are_named(body: bytes, media_type: str, paths: set[str] | None) -> None:
    assert touched(body, media_type) == paths
