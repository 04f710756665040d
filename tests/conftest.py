"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# Times say more about what else the machine does than about the code: properties are tested, not speed.
settings.register_profile("crowdmood", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crowdmood")
