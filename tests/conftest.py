from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.support.fixtures", "tests.support.leftovers"]

# No test has a time limit of its own: others may need the machine at the same time.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")
