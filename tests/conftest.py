"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# Times say more about what else the machine does than about the code: properties are tested, not speed.
settings.register_profile("crowdmood", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crowdmood")

# A process for each core (`make test`): more threads would wait for each other. Read when torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
