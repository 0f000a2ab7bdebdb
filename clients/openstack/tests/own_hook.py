"""A hook that a cloud of `clouds.yaml` may have; the client imports it."""

from openstack.connection import Connection


def add_a_header(connection: Connection) -> None:
    connection.session.additional_headers["X-Own"] = "yes"
