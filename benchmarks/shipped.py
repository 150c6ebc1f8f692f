"""To be imported first: the environment as it is shipped, without what only the tests have installed."""

from __future__ import annotations

import sys

for _name in ("click", "pygments", "rich"):  # httpx imports them where they are there, for a command of its own
    sys.modules[_name] = None  # type: ignore[assignment]  # what the import system takes for "there is none"
