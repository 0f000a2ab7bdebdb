"""Sharing: `{a: Site1, b: Site2}`. The service that the request is for is the one of the site that the scope names."""

from cheops.model import Resolved, View
from cheops.plan.steps import Forward, Plan


def share(service: str, resolved: Resolved, view: View) -> Plan:
    """One step: to the named site, or to this one when the scope doesn't name the service."""
    return Plan(steps=(Forward(service=service, site=resolved.site_of.get(service, view.site)),), resolved=resolved)
