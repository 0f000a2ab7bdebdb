"""Sharing: `{a: Site1, b: Site2}`. The service that the request is for is the one of the site that the scope names."""

from cheops.model import Resolved, View
from cheops.plan.steps import Forward, Plan
from cheops.scope import SiteName


def share(service: str, place: SiteName, resolved: Resolved, view: View) -> Plan:
    """One step, to the named site."""
    return Plan(step=Forward(service=service, site=place.name, resolved=resolved))
