"""What happens among the sites, for logs and stories. Pure."""

from dataclasses import dataclass
from enum import Enum

from cheops.model import PeerState
from cheops.sites.roll import Standing


class Happening(Enum):
    """WIPED: a peer's data has been made anew. CLASH: a member claims another's number. OUTDATED: this site's name has
    a newer certificate elsewhere. STOOD_STILL: this site's own loop did.
    """

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    JOINED = "joined"
    LEFT = "left"
    REMOVED = "removed"
    WIPED = "wiped"
    CLASH = "clash"
    OUTDATED = "outdated"
    STOOD_STILL = "stood still"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to `site` (which may be this one) at a monotonic time."""

    at: float
    what: Happening
    site: str
    detail: str = ""


OF_STATE = {
    PeerState.UP: Happening.UP,
    PeerState.SUSPECT: Happening.SUSPECT,
    PeerState.DOWN: Happening.DOWN,
}
OF_STANDING = {
    Standing.MEMBER: Happening.JOINED,
    Standing.LEFT: Happening.LEFT,
    Standing.REMOVED: Happening.REMOVED,
}
