"""Test doubles of the OpenStack bed: a fake hypervisor, and a driver that binds every port."""
