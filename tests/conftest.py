from __future__ import annotations

import gc

from hypothesis import settings

pytest_plugins = ["tests.support.fixtures", "tests.support.leftovers"]

# No test has a time limit of its own: others may need the machine at the same time.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


def pytest_collection_finish() -> None:
    """Exclude the thousands of tests from garbage collection, which some of them run."""
    gc.collect()
    gc.freeze()
