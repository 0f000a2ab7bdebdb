"""Whether the addresses of a lab are free."""

import errno
import socket
from collections.abc import Mapping

from cheops.config import parse_address
from cheops.lab.errors import LabFailed


def check_free(users: Mapping[str, str]) -> None:
    """`users` says what will listen on each address. Raises LabFailed for the first one that can't be had.

    Envoy itself wouldn't notice: it shares its addresses with other Envoys (SO_REUSEPORT).
    """
    for text, user in users.items():
        address = parse_address(text)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections don't count
            try:
                trial.bind((address.host, address.port))
            except OSError as error:
                used = error.errno == errno.EADDRINUSE
                why = "is in use by something else" if used else f"can't be used: {error.strerror}"
                raise LabFailed(
                    f"{text}, for {user}, {why}",
                    hint="Take other addresses, such as --net 127.0.77, or end what listens there.",
                ) from error
