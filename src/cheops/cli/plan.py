"""`cheops plan`: what a site would do with a request, and nothing sent."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click

from cheops.cli.admin import Admin, AgentDoesntAnswer, AgentRefuses, at_a_site
from cheops.errors import BadSettings
from cheops.scope import Scope, ScopeError, canonical, parse


@click.command()
@click.option("--scope", "text", default="{}", metavar="SCOPE", help="Such as '{image: Site1 ; Site2}'.")
@click.option("--service", metavar="NAME", help="The service that PATH is of.  [default: the one that SCOPE binds]")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="A header of the request.")
@click.option("--data", metavar="TEXT|@FILE", help="Its body; of a file with @, of standard input with @-.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.argument("method")
@click.argument("path")
@at_a_site
def plan(
    text: str,
    service: str | None,
    headers: tuple[str, ...],
    data: str | None,
    as_json: bool,
    method: str,
    path: str,
    admin: Admin,
) -> None:
    """Print the steps that METHOD PATH would take, and send nothing:

    cheops plan --site Site1 --scope '{catalog: Site2 ; Site1}' GET /v1/buckets

    PATH may be the URL of a front.
    """
    try:
        scope = parse(text)
    except ScopeError as error:
        click.echo(error.caret(), err=True)
        sys.exit(2)
    services = admin.get("/site")["services"].items()
    fronts = {word: entry["front"] for name, entry in services for word in (name, *entry["aliases"])}
    front, target = _front(path, _service_of(scope, service), fronts)
    sent = dict(_pair(header) for header in headers) | {"X-Scope": canonical(scope), "Cheops-Plan": "only"}
    with _body(data) as body:
        found = _ask(front, method.upper(), target, sent, body)
    click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else _shown(found))


def _service_of(scope: Scope, named: str | None) -> str | None:
    return named or (scope.bindings[0].service if len(scope.bindings) == 1 else None)


def _front(path: str, service: str | None, fronts: dict[str, str]) -> tuple[str, str]:
    """The front that is meant, and the path there. Raises BadSettings if that isn't clear."""
    if path.startswith("http://"):
        url = urlsplit(path)
        return url.netloc, (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not path.startswith("/"):
        raise BadSettings(f"'{path}' is no path", hint="It begins with '/', or is the URL of a front.")
    if service is None and len(set(fronts.values())) == 1:
        service = next(iter(fronts))
    lower = {name.lower(): front for name, front in fronts.items()}
    if service is None or service.lower() not in lower:
        what = "which service is it for?" if service is None else f"there is no service '{service}' here"
        raise BadSettings(what, hint=f"Name it with --service: {', '.join(fronts)}.")
    return lower[service.lower()], path


def _pair(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon:
        raise BadSettings(f"-H '{header}' is no header", hint="Write it NAME:VALUE.")
    return name.strip(), value.strip()


def _body(data: str | None) -> AbstractContextManager[bytes | IO[bytes] | None]:
    if data is None or not data.startswith("@"):
        return nullcontext(data.encode() if data is not None else None)
    if data == "@-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(data[1:]).open("rb")
    except OSError as error:
        raise BadSettings(f"--data {data}: it can't be read: {error.strerror}") from error


def _ask(front: str, method: str, target: str, headers: dict[str, str], body: bytes | IO[bytes] | None) -> Any:
    import http.client

    connection = http.client.HTTPConnection(front, timeout=30)
    try:
        connection.request(method, target, body, headers)
        reply = connection.getresponse()
        content = reply.read()
    except OSError as error:
        raise AgentDoesntAnswer(f"no front answers at {front}: {error.strerror or error}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise BadSettings(f"{method} {target} can't be asked at {front}: {error}", hint="Percent-encode it.") from error
    finally:
        connection.close()
    return _plan(front, reply.status, content)


def _plan(front: str, status: int, content: bytes) -> Any:
    """The plan in an answer. An application has errors of its own form, and a front may be of something else."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if status == 200 and isinstance(document, dict) and "steps" in document:
        return document
    if isinstance(document, dict) and "detail" in document:
        raise AgentRefuses(str(document["detail"]), hint=str(document.get("hint", "")))
    said = content[:200].decode(errors="replace").strip()
    raise AgentRefuses(f"{front} answered {status}, and no plan: {said}", hint="Is that the front of a service?")


def _shown(found: dict[str, Any]) -> str:
    """The plan in lines."""
    lines = [f"A request for '{found['service']}' at {found['at']}: {found['collaboration']}."]
    for number, step in enumerate(found["steps"], start=1):
        request = step["request"]
        lines.append(f"{number}. {step['site']} ({step['state']}): {request['method']} {request['target']}")
        lines += [f"     {name}: {value}" for name, value in request["headers"]]
        lines += [f"     its body {request['body']}"] if request["body"] else []
    if found["around"]:
        near = (f"{site['site']} {site['ms']:g} ms ({site['age']:g} s old)" for site in found["around"])
        lines.append(f"Near enough: {', '.join(near)}.")
    if found["unreachable"]:
        lines.append(f"Down: {', '.join(found['unreachable'])}.")
    return "\n".join([*lines, found["if_lost"]])
