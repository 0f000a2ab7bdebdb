"""A service that keeps notes and pages in a database, and in the same transaction what it has executed: kill -9 loses
nothing that it has answered, and whatever it did twice can be told.

POST /notes makes a note, with an id of the service's own; PUT /pages/own-… makes a page; at either PUT replaces, PATCH
merges, DELETE removes, and POST is an action, of which only the record tells. The query's `mark` says which request it
was. Of a field `fill` only the SHA-256 is kept.

At its own address its owner has it fail: PUT /mood {"late": s, "slow": s, "mute": true, "fails": "before" | "after"}.
Late: it begins so much later, unless who asked has gone; slow: it answers so much later; mute: it neither executes nor
answers. GET /executed is the record, GET /state all notes and pages.
"""

import hashlib
import json
import socket
import sqlite3
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, Any]
MISSING: Answer = (404, {"error": "no such note"})
LOOK_SECONDS = 0.05
ALIKE = {"/notes": "id not like 'own-%'", "/pages": "id like 'own-%'", "/state": "true"}
mood: dict[str, Any] = {}


class Notes:
    """The notes of a site, and the record of what was executed."""

    def __init__(self, path: str, site: str) -> None:
        self._site, self._alone = site, threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript(
            "pragma journal_mode=wal; pragma synchronous=full;"
            "create table if not exists notes (id text primary key, document text not null);"
            "create table if not exists executed (mark text, method text, id text, at real);"
        )

    def execute(self, method: str, local: str, mark: str, document: dict[str, Any] | None) -> Answer:
        """Does it and records that it was done, in one transaction; what is refused isn't recorded."""
        with self._alone, self._database:
            answer = self._done(method, local, document or {})
            if answer[0] < 300:
                row = (mark, method, local or answer[1]["id"], time.time())
                self._database.execute("insert into executed values (?, ?, ?, ?)", row)
            return answer

    def _done(self, method: str, local: str, document: dict[str, Any]) -> Answer:
        there = self._note(local)
        match method:
            case "POST" if not local:
                return 201, self._keep(str(uuid.uuid4()), document)
            case "PUT" if there is not None or local.startswith("own-"):
                return 201 if there is None else 200, self._keep(local, document)
            case _ if there is None:
                return MISSING
            case "POST":
                return 200, there
            case "PATCH":
                return 200, self._keep(local, document, there)
            case "DELETE":
                self._database.execute("delete from notes where id = ?", (local,))
                return 204, None
        return 405, {"error": "no such method"}

    def _keep(self, local: str, said: dict[str, Any], there: dict[str, Any] | None = None) -> dict[str, Any]:
        note = (there or {}) | said | {"id": local, "made_by": self._site}
        if "fill" in said:
            note["fill"] = hashlib.sha256(said["fill"].encode()).hexdigest()
        self._database.execute("insert or replace into notes values (?, ?)", (local, json.dumps(note)))
        return note

    def _note(self, local: str) -> dict[str, Any] | None:
        row = self._database.execute("select document from notes where id = ?", (local,)).fetchone()
        return dict(json.loads(row[0])) if row else None

    def read(self, path: str) -> Answer:
        with self._alone:
            if path == "/executed":
                return 200, self._database.execute("select mark, method, id, at from executed").fetchall()
            if path in ALIKE:
                rows = self._database.execute(f"select document from notes where {ALIKE[path]} order by rowid")
                return 200, [json.loads(row[0]) for row in rows]
            note = self._note(path.rpartition("/")[2])
            return MISSING if note is None else (200, note)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    notes: Notes

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/ready":
            self._reply((200, {}))
        elif path in ("/executed", "/state") or not self._is_mute():
            self._reply(self.notes.read(path))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path == "/mood":
            mood.clear()
            mood.update(json.loads(content))
            self._reply((200, {}))
        elif self._is_mute() or self._is_given_up(mood.get("late", 0)):
            self.close_connection = True
        elif mood.get("fails") == "before":
            self._reply((503, {"error": "not now"}))
        else:
            self._execute(content)

    do_POST = do_PATCH = do_DELETE = do_PUT  # noqa: N815

    def _execute(self, content: bytes) -> None:
        parts, failing, slow = urlsplit(self.path), mood.get("fails"), mood.get("slow", 0)
        mark = parse_qs(parts.query).get("mark", [""])[0]
        local = parts.path.partition("/")[2].partition("/")[2]
        answer = self.notes.execute(self.command, local, mark, json.loads(content) if content else None)
        time.sleep(slow)
        if failing == "after":
            self.close_connection = True
        else:
            self._reply(answer)

    def _is_mute(self) -> bool:
        """After it was mute it has forgotten what it was asked."""
        was = bool(mood.get("mute"))
        while mood.get("mute") and not self._is_left():
            time.sleep(LOOK_SECONDS)
        self.close_connection = self.close_connection or was
        return was

    def _is_given_up(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._is_left():
            time.sleep(LOOK_SECONDS)
        return seconds > 0 and self._is_left()

    def _is_left(self) -> bool:
        """Whether who asked has closed the connection."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _reply(self, answer: Answer) -> None:
        status, document = answer
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        if status == 201 and "id" in document:
            self.send_header("Location", f"/notes/{document['id']}")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """What is executed is recorded in the database."""


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has gone."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main() -> None:
    address, path, site = sys.argv[1:]
    host, _, port = address.rpartition(":")
    Handler.notes = Notes(path, site)
    Server((host, int(port)), Handler).serve_forever()


main()
