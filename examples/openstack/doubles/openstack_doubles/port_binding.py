"""A test double of the network agents: a driver of neutron's ML2 that calls every port bound at once."""

# neutron 29 reads Port.port_forwardings, which is there only once this model has been imported; no plugin of ours does.
from neutron.db.models import port_forwarding  # noqa: F401
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api
from sqlalchemy import orm


class PortBindingDouble(api.MechanismDriver):
    def initialize(self):
        orm.configure_mappers()  # makes Port.port_forwardings before the first request asks for it

    @property
    def connectivity(self):
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        for segment in context.segments_to_bind:
            details = {portbindings.CAP_PORT_FILTER: False}
            context.set_binding(
                segment[api.ID], portbindings.VIF_TYPE_OTHER, details, status=constants.PORT_STATUS_ACTIVE
            )
            return
