"""Carries out any plan; alone owns time-outs and retries.

A Forward is sent once and never again: whoever may have executed a request is not asked twice. Envoy bounds how long a
site may take to accept a connection; how long a service takes to answer is the service's business.
"""

from cheops.model import Reply, Request
from cheops.plan import Plan
from cheops.ports import Transport


async def execute(plan: Plan, request: Request, transport: Transport) -> Reply:
    """The reply to the request. Raises what the transport raises."""
    (step,) = plan.steps
    return await transport.send(request, site=step.site)
