"""A test double of a hypervisor: nova's own fake driver, which keeps servers in memory, with two differences.

It downloads the image from glance before it boots, as libvirt's driver does; and its node keeps its identity over a
restart: the fake driver draws a new one, with which nova-compute refuses to start.
"""

from pathlib import Path

from nova import conf
from nova.virt import fake, images, node

CONF = conf.CONF


class HypervisorDouble(fake.FakeDriver):
    def spawn(self, context, instance, image_meta, *args, **kwargs):
        if instance.image_ref:
            folder = Path(CONF.state_path) / "images"
            folder.mkdir(parents=True, exist_ok=True)
            images.fetch(context, instance.image_ref, str(folder / instance.uuid))
        return super().spawn(context, instance, image_meta, *args, **kwargs)

    def get_nodenames_by_uuid(self, refresh=False):
        return {node.get_local_node_uuid(): name for name in self.get_available_nodes()}

    def get_available_resource(self, nodename):
        return super().get_available_resource(nodename) | {"uuid": node.get_local_node_uuid()}
