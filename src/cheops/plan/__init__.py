"""A request and its scope, in view of the sites, as the steps that carry it out. Pure; one file an operator, one table.

A plan is data: a dry run is a plan that is printed.
"""

from cheops.plan.steps import Forward, Plan, Step
from cheops.plan.table import make_plan

__all__ = ["Forward", "Plan", "Step", "make_plan"]
