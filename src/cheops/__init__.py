"""Cheops: one whole instance of an application on every site, collaborating request by request."""

__version__ = "0.1.0"
