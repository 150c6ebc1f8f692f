"""Whether this machine has IPv6."""

from __future__ import annotations

import socket

import pytest


def has_ipv6() -> bool:
    """Return whether the IPv6 loopback address can be bound."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(
    not has_ipv6(), reason="this machine has no IPv6 loopback address (sysctl net.ipv6.conf.lo.disable_ipv6=0)"
)
