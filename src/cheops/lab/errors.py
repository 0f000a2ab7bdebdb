"""What a lab says when it can't do what was asked."""

from cheops.errors import CheopsError, Fault


class LabFailed(CheopsError):
    code, status, title, fault = "lab", 500, "The lab doesn't do what was asked", Fault.CALLER
