"""Applications are descriptions, not code: what they say, and what reads them."""

from cheops.applications.bundled import bundled, find_application, is_bundled
from cheops.applications.description import (
    Application,
    Carrier,
    RequestIdCarrier,
    Service,
    TokenSuffixCarrier,
    read_application,
)
from cheops.applications.errors import Errors
from cheops.applications.resources import Content, Resource

__all__ = [
    "Application",
    "Carrier",
    "Content",
    "Errors",
    "RequestIdCarrier",
    "Resource",
    "Service",
    "TokenSuffixCarrier",
    "bundled",
    "find_application",
    "is_bundled",
    "read_application",
]
