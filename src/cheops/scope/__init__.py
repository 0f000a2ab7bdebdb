"""scope-lang: what a user writes to let sites collaborate on one request, as a tree. Pure: text in, values out.

Imports nothing but itself, and that relatively: clients/openstack ships this folder under a name of its own.
"""

from .errors import ScopeError
from .names import Names
from .parse import MAX_CHARACTERS, MAX_DEPTH, MAX_NAMES, parse
from .tree import (
    Around,
    Binding,
    Cross,
    Joined,
    Location,
    Otherwise,
    Replicas,
    Scope,
    SiteName,
    Span,
    Spread,
    UnclearError,
    canonical,
    duration_text,
    is_single_site,
    joined,
    parts_of,
    sites_of,
    walk,
)

__all__ = [
    "MAX_CHARACTERS",
    "MAX_DEPTH",
    "MAX_NAMES",
    "Around",
    "Binding",
    "Cross",
    "Joined",
    "Location",
    "Names",
    "Otherwise",
    "Replicas",
    "Scope",
    "ScopeError",
    "SiteName",
    "Span",
    "Spread",
    "UnclearError",
    "canonical",
    "duration_text",
    "is_single_site",
    "joined",
    "parse",
    "parts_of",
    "sites_of",
    "walk",
]
