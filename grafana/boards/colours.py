"""Fixed colours of series, for labels with a closed list of values: distinct within a graph, and the same in all.

Keys are legends. Series of an account, instance, source or factor are not listed: each of them gets the next colour
of Grafana's palette.
"""

from __future__ import annotations

from itertools import product

from exporter.exposition.catalogue import LostRun, SchedulerTask
from exporter.polling.record import COUNTED_TYPES
from exporter.verify.outcome import NOTIFICATION_PLATFORMS, OTHER, Operation, Reason, Status
from grafana.boards.states import BAD, GOOD, GREY, PLAIN, WARN

NO_EVENTS = "none"
OF_NO_EVENTS = "super-light-green"

QUANTILES = {"p50": "blue", "p95": "yellow", "p99": "orange"}

# By class of HTTP status code. 404 is an answer, 429 a limit, and neither is among the other 4xx.
CODE_CLASSES = {
    "2xx": GOOD,
    "404": "light-blue",
    "3xx": "purple",
    "4xx": WARN,
    "429": "yellow",
    "5xx": BAD,
    "none": "dark-red",
}

OPERATIONS: dict[str, str] = {
    Operation.FETCH: "blue",
    Operation.LIST: "purple",
    Operation.LIST_ENTITIES: "yellow",
    Operation.SERVICE: "orange",
    Operation.TOKEN: "green",
}
MEASURED = {f"{operation} measured": f"dark-{colour}" for operation, colour in OPERATIONS.items()}
REPORTED = {f"{operation} reported by Twilio": f"light-{colour}" for operation, colour in OPERATIONS.items()}

# Network in purple, credentials in orange, answers that can't be used in blue.
REASONS: dict[str, str] = {
    Reason.TIMEOUT: "purple",
    Reason.CONNECT: "dark-purple",
    Reason.DNS: "light-purple",
    Reason.TLS: "super-light-purple",
    Reason.AUTH: "dark-orange",
    Reason.FORBIDDEN: "light-orange",
    Reason.RATE_LIMITED: "yellow",
    Reason.BAD_REQUEST: "dark-blue",
    Reason.DECODE: "blue",
    Reason.UNKNOWN_STATUS: "light-blue",
    Reason.SERVER_ERROR: BAD,
    Reason.INTERNAL: "dark-red",
}

# Losses in red and orange.
STATUS_CHANGES = {
    f"{Status.VERIFIED} → {Status.UNVERIFIED}": WARN,
    f"{Status.VERIFIED} → {Status.NOT_FOUND}": BAD,
    f"{Status.UNVERIFIED} → {Status.NOT_FOUND}": "dark-red",
    f"{Status.UNVERIFIED} → {Status.VERIFIED}": GOOD,
    f"{Status.NOT_FOUND} → {Status.VERIFIED}": "dark-green",
    f"{Status.NOT_FOUND} → {Status.UNVERIFIED}": "yellow",
}

LOST_RUNS = {
    f"{task} {reason}": shade + hue
    for (task, hue), (reason, shade) in product(
        zip(SchedulerTask, ("blue", "purple", "orange", "yellow"), strict=True),
        zip(LostRun, ("light-", "", "dark-"), strict=True),
    )
}

TYPES = dict(zip(COUNTED_TYPES, (PLAIN, "orange", "purple", "yellow", GREY), strict=True))
ENROLMENT_DURATIONS = {
    f"{counted_type} {quantile}": grey if colour == GREY else f"{shade}-{colour}"
    for (counted_type, colour), (quantile, shade, grey) in product(
        TYPES.items(), (("p50", "light", "#b8b8b8"), ("p95", "dark", "#5a5a5a"))
    )
}
PLATFORMS = dict(zip((*NOTIFICATION_PLATFORMS, OTHER), (PLAIN, "orange", BAD, "yellow"), strict=True))
GENERATIONS = {f"generation {number}": colour for number, colour in enumerate(("blue", "purple", "orange"))}
