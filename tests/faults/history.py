"""What clients have asked, and what they have heard."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

ASKING_SECONDS = 45.0
SAID_NO = {"holder-unreachable", "agent-away"}  # codes of failures that promise that nothing was executed
UNKNOWN = 0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request and its answer; `status` is UNKNOWN if the connection broke. `at` is in seconds since the beginning of
    the run, `took` in seconds.
    """

    mark: str
    kind: str
    site: str
    method: str
    target: str
    send: Mapping[str, Any] | None
    at: float
    holders: tuple[str, ...] = ()
    status: int = UNKNOWN
    headers: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    took: float = 0.0

    @property
    def rid(self) -> str:
        return self.headers.get("cheops-resource", "")

    @property
    def path(self) -> str:
        """Of the resource, by its rid."""
        return f"/{self.target.partition('?')[0].split('/')[1]}/{self.rid}"

    @property
    def is_acknowledged(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_denied(self) -> bool:
        """Whether it was told that nothing was executed, and nothing will be. A failure that names a resource says
        that no holder has accepted it.
        """
        if self.status < 400 or self.headers.get("cheops-executed") == "unknown":
            return False
        if self.kind == "DELETE" and self.status in (404, 410) and self.rid:
            return False  # there was nothing to delete at the site that answered, and that is done
        said_no = self.headers.get("cheops-executed") == "no" or self._code in SAID_NO
        return self.status < 500 or bool(self.rid) or said_no

    @property
    def _code(self) -> str:
        try:
            document = json.loads(self.said)
        except ValueError:
            return ""
        return str(document.get("code", "")) if isinstance(document, dict) else ""

    @property
    def outcomes(self) -> dict[str, str]:
        """What each holder is said to have answered."""
        pairs = (part.strip().partition("=") for part in self.headers.get("cheops-outcome", "").split(",") if part)
        return {site: word for site, _, word in pairs}

    @property
    def keeps(self) -> dict[str, Any]:
        """What a service keeps of it: of what is long only its hash."""
        said = dict(self.send or {})
        return said | ({"fill": hashlib.sha256(said["fill"].encode()).hexdigest()} if "fill" in said else {})

    def line(self) -> str:
        return json.dumps(asdict(self) | {"send": self.keeps})

    def __str__(self) -> str:
        answer = f"{self.status} {dict(self.headers)}" if self.status else f"no answer ({self.said})"
        return (
            f"{self.mark} ({self.method} {self.target} at {self.site}, {self.at:.1f} s after the beginning, answered "
            f"after {self.took:.1f} s: {answer})"
        )


async def answered(session: aiohttp.ClientSession, asked: Asked, url: str, headers: Mapping[str, str]) -> Asked:
    """The same, with its answer."""
    began = time.monotonic()
    told: dict[str, Any] = {}
    try:
        timeout = aiohttp.ClientTimeout(total=ASKING_SECONDS)
        async with session.request(
            asked.method, url + asked.target, json=asked.send, headers=headers, timeout=timeout
        ) as reply:
            told["said"] = (await reply.text(errors="replace"))[:2000]
            named = {name.lower(): value for name, value in reply.headers.items() if name.lower().startswith("cheops-")}
            told |= {"status": reply.status, "headers": named}
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        told["said"] = repr(error)
    return Asked(**{**vars(asked), **told, "took": time.monotonic() - began})
