"""The errors of Cheops: a code for machines, a sentence for people, and whether trying again helps.

Over HTTP an error is a problem document (RFC 9457). What this module does not promise: that a service's own error
looks like this; those pass through untouched.
"""

import json
from enum import Enum
from typing import Any, ClassVar


class Fault(Enum):
    """Whose fault an error is: ours, the caller's or a peer's."""

    OURS = "ours"
    CALLER = "caller"
    PEER = "peer"


class CheopsError(Exception):
    """An error that a user may see; `detail` says what happened and where, `hint` what to do."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Cheops failed"
    fault: ClassVar[Fault] = Fault.OURS
    retry: ClassVar[bool] = False

    def __init__(self, detail: str, *, hint: str = "", **members: Any) -> None:
        super().__init__(detail)
        self.detail, self.hint, self.members = detail, hint, members

    def __str__(self) -> str:
        return f"{self.detail}\n{self.hint}" if self.hint else self.detail

    def problem(self) -> dict[str, Any]:
        """The problem document, as RFC 9457 names its members; ours are `code`, `hint`, `retry`, `fault`."""
        document = {
            "type": f"urn:cheops:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "hint": self.hint,
            "retry": self.retry,
            "fault": self.fault.value,
            **self.members,
        }
        return {name: value for name, value in document.items() if value != ""}

    def body(self) -> bytes:
        return json.dumps(self.problem(), ensure_ascii=False).encode() + b"\n"


class BadScope(CheopsError):
    code, status, title, fault = "bad-scope", 400, "The scope can't be understood", Fault.CALLER


class BadRequest(CheopsError):
    code, status, title, fault = "bad-request", 400, "The request can't be understood", Fault.CALLER


class NotYet(CheopsError):
    code, status, title, fault = "not-yet", 501, "This collaboration isn't available yet", Fault.CALLER


class SiteUnreachable(CheopsError):
    code, status, title, fault, retry = "site-unreachable", 503, "A site can't be reached", Fault.PEER, True


class AgentAway(SiteUnreachable):
    """The site is there, and serves what needs no agent; its agent isn't."""

    code = "agent-away"


class Refused(CheopsError):
    """Another site's agent has answered something else than 200; `status` of its members says what."""

    code, status, title, fault = "refused", 502, "Another site's agent refuses", Fault.PEER


class NobodyCan(CheopsError):
    """None of the sites that a scope gives to choose from took the request; nothing was executed."""

    code, status, title, fault, retry = "nobody-can", 503, "None of the sites can", Fault.PEER, True


class NobodyNear(CheopsError):
    code, status, title, fault, retry = "nobody-near", 503, "No site is near enough", Fault.PEER, True


class CantSay(CheopsError):
    code, status, title, fault, retry = "cant-say", 503, "The distances between sites aren't known", Fault.PEER, True


class MaybeExecuted(CheopsError):
    """A site may have executed a write, so no other is asked: nothing is done twice."""

    code, status, title, fault = "maybe-executed", 504, "A site may have executed the request", Fault.PEER


class CantKeep(CheopsError):
    code, status, title, retry = "cant-keep", 503, "Something can't be written down", True


class ScopeNoLongerKept(CheopsError):
    code, status, title, fault = "scope-not-kept", 409, "The scope of this workflow isn't kept any more", Fault.OURS


class ServiceUnreachable(CheopsError):
    code, status, title, fault, retry = "service-unreachable", 503, "A service doesn't answer", Fault.PEER, True


class Circle(CheopsError):
    code, status, title, fault = "circle", 508, "The request goes round in circles", Fault.OURS


class BadHeartbeat(CheopsError):
    code, status, title, fault = "bad-heartbeat", 400, "A heartbeat can't be understood", Fault.PEER


class BadMessage(CheopsError):
    """What another site's agent has sent can't be understood."""

    code, status, title, fault = "bad-message", 400, "A message between agents can't be understood", Fault.PEER


class NotAMember(CheopsError):
    """Who asks isn't the site it says it is, or isn't a member (any more)."""

    code, status, title, fault = "not-a-member", 403, "The site isn't a member of this deployment", Fault.PEER


class NotThere(CheopsError):
    code, status, title, fault = "not-there", 404, "The resource isn't there", Fault.CALLER


class ReliedOn(CheopsError):
    code, status, title, fault = "relied-on", 409, "Other resources rely on this one", Fault.CALLER


class LacksReference(CheopsError):
    """A site lacks something that a creation refers to."""

    code, status, title, fault = "lacks-reference", 409, "A site lacks what the request refers to", Fault.CALLER


class CantAdopt(CheopsError):
    code, status, title, fault = "cant-adopt", 409, "What is there can't be replicated", Fault.CALLER


class AlreadyThere(CheopsError):
    """What is to be made is there already, or overlaps what is."""

    code, status, title, fault = "already-there", 409, "It is there already", Fault.CALLER


class Subset(CheopsError):
    """A write that names some of the sites that hold a resource."""

    code, status, title, fault = "subset", 409, "The resource is held by other sites too", Fault.CALLER


class NotReplicated(CheopsError):
    code, status, title, fault = "not-replicated", 409, "The resource isn't replicated", Fault.CALLER


class CantDivide(CheopsError):
    """A request can't be divided among the sites of what it is for."""

    code, status, title, fault = "cant-divide", 400, "The request can't be divided among the sites", Fault.CALLER


class Ambiguous(CheopsError):
    """What names a resource names several."""

    code, status, title, fault = "ambiguous", 409, "Several resources are called so", Fault.CALLER


class NothingToDo(CheopsError):
    """A command that changes nothing, as things are."""

    code, status, title, fault = "nothing-to-do", 409, "There is nothing to do", Fault.CALLER


class Busy(CheopsError):
    """A resource is being worked on."""

    code, status, title, retry = "busy", 503, "The resource is being worked on", True


class HolderUnreachable(CheopsError):
    code, status, title, fault, retry = "holder-unreachable", 503, "A holder can't be reached", Fault.PEER, True


class StoreFailed(CheopsError):
    """The store can't do it now: a full disk, a database that is away; `retry` of ours: it may later."""

    code, status, title, retry = "store-failed", 503, "The store can't be used now", True


class StoreTooNew(CheopsError):
    """The store was written by a newer version of Cheops."""

    code, title, fault = "store-too-new", "The store is of a newer version", Fault.CALLER


class Taken(CheopsError):
    """An operation of this name is there already: another agent of this site was faster."""

    code, status, title, retry = "taken", 503, "Another agent was faster", True


class NoIdThere(CheopsError):
    """A request names a resource that a site has no id of yet; `rid` of its members says which."""

    code, status, title, retry = "no-id-there", 409, "A site doesn't have what the request names", True


class BlobDamaged(CheopsError):
    code, title, fault, retry = "blob-damaged", "A body isn't what it should be", Fault.PEER, True


class CredentialsFailed(CheopsError):
    """The site's own credentials for a service can't be had now."""

    code, status, title, fault, retry = "credentials", 503, "The site's credentials can't be had", Fault.PEER, True


class BadSettings(CheopsError):
    """A file of the user's that can't be used, or settings that contradict each other."""

    code, title, fault = "bad-settings", "The settings can't be used", Fault.CALLER


class DataPlaneFailed(CheopsError):
    code, title, retry = "data-plane", "Envoy doesn't do what it was told", True
