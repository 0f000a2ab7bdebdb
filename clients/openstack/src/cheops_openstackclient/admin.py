"""The admin API of a Cheops agent, as far as the commands need it.

Goes to the agent itself whatever proxy the environment names. Doesn't try again: the one who asks sits in front of it.
"""

from typing import Any, Final

import requests

DEFAULT_URL: Final = "http://127.0.0.1:7480"
_NAME_ONE: Final = "name an agent's admin API with --cheops-admin or CHEOPS_ADMIN"
_SECONDS: Final = 5  # the agent is on this machine, or at the end of a tunnel


class NoAgent(Exception):
    """Nothing answers there."""


class NotUnderstood(Exception):
    """What answers there says something else than an agent says, or that the question is wrong."""


class Mistake(Exception):
    """The scope is wrong for this site; the text is the agent's, with the caret."""


class Admin:
    """Questions to the agent at `url`. Each raises NoAgent or NotUnderstood, which say what to do."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def site(self) -> dict[str, Any]:
        """The site as GET /site describes it: `site`, `number`, `peers`, …"""
        status, document = self._get("/site", {})
        if status == 200 and "peers" in document:
            return document
        raise self._unexpected(status, document)

    def meaning(self, text: str, service: str | None) -> str:
        """The canonical text of a scope with the services under their types. Raises Mistake too."""
        status, document = self._get("/scope", {"text": text, **({"service": service} if service else {})})
        if status == 200 and "canonical" in document:
            return str(document["canonical"])
        if status == 400 and "caret" in document:
            raise Mistake(document["caret"])
        raise self._unexpected(status, document)

    def _get(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(self.url + path, params=query, timeout=_SECONDS)
                document = answer.json()
        except requests.exceptions.JSONDecodeError as error:
            raise NotUnderstood(f"what answers at {self.url} is no agent of Cheops; {_NAME_ONE}") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise NoAgent(f"no agent answers at {self.url}; {_NAME_ONE}") from error
        except requests.exceptions.RequestException as error:
            raise NotUnderstood(f"{self.url} can't be asked: {error}; {_NAME_ONE}") from error
        return answer.status_code, document if isinstance(document, dict) else {}

    def _unexpected(self, status: int, document: dict[str, Any]) -> NotUnderstood:
        detail = document.get("detail") or f"no agent of Cheops says that; {_NAME_ONE}"
        return NotUnderstood(f"{self.url} answers {status}: {detail}")
