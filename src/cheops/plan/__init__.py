"""A request and its scope, in view of the sites, as the steps that carry it out. Pure; one file an operator, one table.

A plan is data: a dry run is a plan that is printed.
"""

from cheops.plan.shown import Sent, Writes, show, show_each
from cheops.plan.steps import Each, FirstAble, Forward, Near, Plan, Step
from cheops.plan.table import centres_of, check_carried_out, make_plan

__all__ = [
    "Each",
    "FirstAble",
    "Forward",
    "Near",
    "Plan",
    "Sent",
    "Step",
    "Writes",
    "centres_of",
    "check_carried_out",
    "make_plan",
    "show",
    "show_each",
]
