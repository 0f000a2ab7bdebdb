"""What holds for all tests: how fast a machine is decides nothing. A property that fails says so by its example."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
