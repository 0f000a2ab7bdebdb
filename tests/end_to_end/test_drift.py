"""`cheops verify` and `cheops repair` on real sites: Kinto, changed behind our back."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from cheops.lab.lab import Lab
from end_to_end.asking import ask
from end_to_end.raw import read_settings, settings_of, write_settings
from end_to_end.test_operating import cheops
from end_to_end.test_replication import RECORDS, at_backend, call, make, open_to_all

AGENT = "Basic " + b64encode(b"agent:of-a-site").decode()


@pytest.fixture(scope="module")
def lab(lab_of: Callable[..., Lab]) -> Lab:
    """Its records may be written by anybody who says a name; the sites have one of their own."""
    lab = lab_of("shop", sites=3)
    for site in lab.sites:
        open_to_all(lab, site.name)
        path = settings_of(lab, site.name)
        own = {"catalog": {"kind": "header", "value": AGENT}}
        write_settings(path, {**read_settings(path), "credentials": own})
    return lab


def behind_our_back(lab: Lab, site: str, method: str, record: str, data: Any = None) -> None:
    url = lab.site(site).backend("catalog") + f"{RECORDS}/{record}"
    body = None if data is None else {"data": data}
    assert ask(url, method, send=body, Authorization=AGENT, Content_Type="application/json").status == 200


def times(lab: Lab, record: str) -> list[int]:
    """When each site's Kinto last wrote the record."""
    found = []
    for name in ("Site1", "Site2"):
        url = lab.site(name).backend("catalog") + f"{RECORDS}/{record}"
        found.append(ask(url, Authorization=AGENT).json["data"]["last_modified"])
    return found


def verified(lab: Lab, site: str, rid: str, status: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cheops(lab, site, "verify", rid, "--json", status=status))
    return found


def test_drift_is_found_and_mended(lab: Lab) -> None:
    rid = make(lab, "drifting", price=1, colour="red").headers["cheops-resource"]
    assert call(lab, "Site2", "PATCH", f"{RECORDS}/drifting", {"price": 2}).status == 200
    assert "are through with" in cheops(lab, "Site1", "wait", rid, "--converged")
    before = times(lab, "drifting")
    assert verified(lab, "Site1", rid)["state"] == "equal"
    assert verified(lab, "Site3", rid)["state"] == "equal", "also as a site tells it that doesn't hold it"
    assert "equal" in cheops(lab, "Site2", "verify", "--all")
    assert times(lab, "drifting") == before, "nothing was written"
    behind_our_back(lab, "Site2", "PATCH", "drifting", {"price": 7})
    (field,) = verified(lab, "Site1", rid, status=1)["fields"]
    assert (field["path"], field["says"], field["values"]) == ("price", 2, {"Site1": 2, "Site2": 7})
    assert "executed again" in cheops(lab, "Site1", "repair", rid)
    assert (at_backend(lab, "Site2", f"{RECORDS}/drifting") or {})["price"] == 2
    assert times(lab, "drifting")[0] == before[0], "Site1 was as it should be"


def test_what_was_lost_is_made_anew(lab: Lab) -> None:
    rid = make(lab, "lost", price=1).headers["cheops-resource"]
    assert call(lab, "Site1", "PATCH", f"{RECORDS}/lost", {"price": 3}).status == 200
    assert "are through with" in cheops(lab, "Site1", "wait", rid, "--converged")
    behind_our_back(lab, "Site2", "DELETE", "lost")
    assert "absent" in cheops(lab, "Site1", "verify", rid, status=1)
    assert "made anew" in cheops(lab, "Site1", "repair", "--all")
    assert at_backend(lab, "Site2", f"{RECORDS}/lost") == at_backend(lab, "Site1", f"{RECORDS}/lost")
    assert verified(lab, "Site2", rid)["state"] == "equal"


def test_a_site_that_cannot_be_read_is_told(lab: Lab) -> None:
    rid = make(lab, "hidden", price=1).headers["cheops-resource"]
    assert "are through with" in cheops(lab, "Site1", "wait", rid, "--converged")
    lab.cut("Site1", "Site2")
    try:
        found = verified(lab, "Site1", rid, status=1)
        assert {each["site"]: each["state"] for each in found["sites"]} == {"Site1": "equal", "Site2": "unreadable"}
    finally:
        lab.heal()
