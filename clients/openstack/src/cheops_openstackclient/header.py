"""Puts the scope on every request of a connection; openstacksdk calls it as the cloud's `vendor_hook`.

A cloud may have a hook of its own, which ours takes the place of: it is looked up again and called.
"""

from importlib.metadata import EntryPoint
from typing import Final

from openstack.config import OpenStackConfig
from openstack.connection import Connection

SCOPE_HEADER: Final = "X-Scope"


def send_scope(connection: Connection) -> None:
    """Every request of this connection's session carries the scope from here on. Called before it authenticates."""
    [text] = connection.config.config["cheops_scope"]
    connection.session.additional_headers[SCOPE_HEADER] = text
    hook = OpenStackConfig().get_one(cloud=connection.config.name, validate=False).config.get("vendor_hook")
    if hook:
        EntryPoint(name="vendor_hook", value=hook, group="vendor_hook").load()(connection)
