"""Import this first: it hides packages that only the tests install, so that none of them is imported."""

from __future__ import annotations

import sys

for _name in ("click", "pygments", "rich"):  # httpx imports them for its command line, if they are installed
    sys.modules[_name] = None  # type: ignore[assignment]  # the import system then raises ImportError
