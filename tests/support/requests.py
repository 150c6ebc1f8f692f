"""The values in the requests of these tests; identity and password must not appear in any output."""

from __future__ import annotations

SERVICE_SID = "VA" + "3" * 32
FACTOR_SID = "YF" + "0123456789abcdef" * 2
IDENTITY = "ff483d1ff591898a9942916050d2ca3f"
USERNAME = "SK" + "4" * 32
PASSWORD = "correct-horse-battery-staple"
