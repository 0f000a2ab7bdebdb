"""How a scope travels with a request: where it is found, and where it is put so that it follows the workflow. Pure."""

from cheops.carry.read import Carried, read_carried
from cheops.carry.write import carry, carry_locations

__all__ = ["Carried", "carry", "carry_locations", "read_carried"]
