"""Secrets, read anew whenever they are needed: whoever renews one needs to tell nobody."""

import re
from collections.abc import Mapping
from pathlib import Path

from cheops.credential_settings import Whereabouts
from cheops.errors import CredentialsFailed

_FIT_FOR_A_HEADER = re.compile(r"[^\x00-\x1f\x7f]+")  # RFC 9110, 5.5


def secret_at(place: Whereabouts, folder: Path, environment: Mapping[str, str]) -> str:
    """The secret, in one line. Files are relative to `folder`. Raises CredentialsFailed, which never shows it."""
    if place.text is not None:
        return _one_line(place.text.get_secret_value(), f"the {place.name} in site.yaml")
    if place.file is not None:
        return secret_in(folder / place.file)
    if place.variable is None or place.variable not in environment:
        what = f"the environment has no variable {place.variable}"
        raise CredentialsFailed(what, hint="Set it where the agent is started, and restart the agent.")
    return _one_line(environment[place.variable], f"the variable {place.variable}")


def secret_in(path: Path) -> str:
    """The secret that this file holds. Raises CredentialsFailed."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        what = f"{path} can't be read: {error.strerror or error}"
        raise CredentialsFailed(what, hint="The agent's user must be able to read it.") from error
    except UnicodeDecodeError:
        raise CredentialsFailed(f"{path} isn't UTF-8") from None  # that error holds what was read
    return _one_line(text, str(path))


def _one_line(text: str, where: str) -> str:
    line = text.strip()
    if not _FIT_FOR_A_HEADER.fullmatch(line):
        what = "is empty" if not line else "has more than one line, or characters that can't be sent"
        raise CredentialsFailed(f"{where} {what}", hint="Write the secret there, in one line.")
    return line
