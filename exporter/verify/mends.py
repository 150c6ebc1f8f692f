"""What to do about a fetch that failed, in words for people."""

from __future__ import annotations

from types import MappingProxyType

from exporter.verify.outcome import Reason

MENDS = MappingProxyType(
    {
        Reason.TIMEOUT: "the API is slow or out of reach; see polling.timeout and the network",
        Reason.CONNECT: "check the network, the firewall and the proxy",
        Reason.DNS: "check base_url and the name servers",
        Reason.TLS: "check ca_file, a proxy that opens TLS, and this machine's clock",
        Reason.AUTH: "check the account's username and password",
        Reason.FORBIDDEN: "give the API key permission to read Verify factors",
        Reason.RATE_LIMITED: "lower requests_per_second or max_concurrency, or lengthen intervals",
        Reason.BAD_REQUEST: "check service_sid, identity and factor_sid",
        Reason.SERVER_ERROR: "Twilio's side; see its status page",
        Reason.DECODE: "something other than the API answered; check base_url and the proxy",
        Reason.UNKNOWN_STATUS: "the API answered a status that this version doesn't know; look for a newer one",
        Reason.INTERNAL: "a fault of the exporter; see its log and report it",
    }
)
"""Reason of a failure → its mend, which names the keys of the configuration that bear on it."""
