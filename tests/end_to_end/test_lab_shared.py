"""A lab whose sites share a process, which is installed first and prepared once, and start theirs in order."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cheops.lab.errors import LabFailed
from cheops.lab.lab import Lab
from end_to_end.asking import ask
from end_to_end.traces import Traces

NOTES = Path(__file__).parent / "apps" / "notes"
LAB = """\
install: [sh, -c, "echo again >> {cache}/installed; echo installing"]
shared:
  before: [sh, -c, "echo {sites} sites > motto"]
  processes:
    mottoes: {command: ["{python}", "{folder}/server.py", "{address}:18700", motto], ready: "tcp://{address}:18700"}
  after: [sh, -c, "echo once >> {data}/after"]
before: [sh, -c, "echo {site} > {data}/motto.txt; cat {data}/../../shared/motto >> {data}/motto.txt"]
processes:
  notes:
    after: [agent]
    command: ["{python}", "{folder}/server.py", "{backend.notes}", "{data}/motto.txt"]
    ready: [sh, -c, "grep -q {site} {data}/motto.txt"]
after: [sh, -c, "echo {shared} > {data}/after"]
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "mottoes"
    folder.mkdir()
    for name in ("application.yaml", "server.py"):
        (folder / name).write_bytes((NOTES / name).read_bytes())
    (folder / "lab.yaml").write_text(LAB)
    return folder


def test_what_is_shared_is_there_before_the_sites(
    folder: Path, app: Path, net: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    address = net()
    with Lab.up(folder, app=str(app), sites=2, net=address) as lab:
        traces = Traces.of(lab)
        assert "installing" in capfd.readouterr().err
        for site in lab.sites:
            assert ask(f"{site.front('notes')}/").body == f"{site.name}\n2 sites\n".encode()
            assert (folder / site.name / "app" / "after").read_text() == f"{address}.254\n"
        assert ask(f"http://{address}.254:18700/").body == b"2 sites\n"
        assert (folder / "shared" / "after").read_text() == "once\n"
        assert list(lab.status()["shared"]) == ["mottoes"]
        assert lab.status()["shared"]["mottoes"]
    assert traces.left() == []
    assert (folder.parent / ".lab-cache" / "mottoes" / "installed").read_text() == "again\n"  # outlives the lab


def test_an_install_that_fails_is_told_before_anything_is_started(
    folder: Path, app: Path, net: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    (app / "lab.yaml").write_text(LAB.replace("echo installing", "echo no network; exit 3"))
    with pytest.raises(LabFailed, match=r"`install` of the application in .*/mottoes ended with status 3"):
        Lab.up(folder, app=str(app), sites=1, net=net())
    assert "no network" in capfd.readouterr().err
    assert not folder.exists()


def test_a_shared_process_that_fails_is_told(folder: Path, app: Path, net: Callable[[], str]) -> None:
    (app / "lab.yaml").write_text(LAB.replace('{address}:18700", motto', '{address}", motto'))
    with pytest.raises(LabFailed, match=r"mottoes of shared has ended by itself\n(.*\n)*.*(Error|No such file)"):
        Lab.up(folder, app=str(app), sites=1, net=net())
    assert Traces(folder, ()).left() == []
