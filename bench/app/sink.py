"""Reads a request's body to its end and says how many bytes that were: 204 with X-Received.

nginx would answer before it has read a body that it throws away, or write it to a file first; neither is a measure of
an upload. Bodies need a Content-Length.
"""

import re
import socket
import sys
import threading

BLOCK = 1 << 20


def serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    block = memoryview(bytearray(BLOCK))
    have = 0
    while True:
        while (end := bytes(block[:have]).find(b"\r\n\r\n")) < 0:
            got = connection.recv_into(block[have:])
            if not got:
                return
            have += got
        found = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", bytes(block[:end]))
        length = int(found[1]) if found else 0
        read = min(length, have - end - 4)
        while read < length and (got := connection.recv_into(block[: min(BLOCK, length - read)])):
            read += got
        connection.sendall(b"HTTP/1.1 204 No Content\r\nX-Received: %d\r\n\r\n" % read)
        if read < length:
            return
        have = 0


def run(connection: socket.socket) -> None:
    with connection:
        try:
            serve(connection)
        except OSError:
            return


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    with socket.create_server((host, int(port)), backlog=128) as listening:
        while True:
            threading.Thread(target=run, args=(listening.accept()[0],), daemon=True).start()


main()
