"""tests/field_reports.md names tests that there are."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| ([A-Z]\d+) \| [^|]+ \| ([^|]+) \|$", (TESTS / "field_reports.md").read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(("report", "held_by"), ROWS, ids=[report for report, _ in ROWS])
def test_each_report_is_held_by_tests_that_there_are(report: str, held_by: str) -> None:
    for test in held_by.split("; "):
        if test.startswith("story "):
            assert (TESTS / "stories" / "replication" / f"{test.removeprefix('story ')}.txt").is_file(), test
        else:
            path, _, name = test.partition("::")
            assert f"def {name}" in (TESTS / path).read_text(encoding="utf-8"), test


def test_no_report_is_listed_twice() -> None:
    assert len({report for report, _ in ROWS}) == len(ROWS) > 20
