"""How a scope travels with a request: where it is found, and where it is put so that it follows the workflow. Pure."""

from cheops.carry.read import Carried, read_carried
from cheops.carry.write import carry

__all__ = ["Carried", "carry", "read_carried"]
