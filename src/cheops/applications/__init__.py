"""Applications are descriptions, not code: what they say, and what reads them."""

from cheops.applications.description import (
    Application,
    Carrier,
    RequestIdCarrier,
    Service,
    TokenSuffixCarrier,
    read_application,
)

__all__ = ["Application", "Carrier", "RequestIdCarrier", "Service", "TokenSuffixCarrier", "read_application"]
