"""How the clients of an application hear of errors that are Cheops' own."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints

from cheops.documents import Document


class Errors(Document):
    """Cheops answers problem documents (RFC 9457); who looks elsewhere finds the sentence where `message` says."""

    media_type: Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9.+-]+$")] = "application/problem+json"
    message: Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*$")] | None = None

    def fit(self, problem: Mapping[str, Any]) -> dict[str, Any]:
        """The problem document, with its `detail` at the place of `message` too."""
        if self.message is None:
            return dict(problem)
        inside: Any = problem["detail"]
        first, *more = self.message.split(".")
        for name in reversed(more):
            inside = {name: inside}
        return {first: inside, **problem}

    def body(self, problem: Mapping[str, Any]) -> bytes:
        return json.dumps(self.fit(problem), ensure_ascii=False).encode() + b"\n"
