"""One service: it answers with the content of a file."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Notes(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Path(sys.argv[2]).read_bytes())


host, port = sys.argv[1].split(":")
ThreadingHTTPServer((host, int(port)), Notes).serve_forever()
