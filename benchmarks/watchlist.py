"""The configuration and watchlist of a benchmark: factors with names of 16 characters in a CSV file."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.upstream import ACCOUNT_SID, PASSWORD, SERVICE_SID, USERNAME

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.upstream import Upstream

_CONFIG = """\
[web]
listen_address = "127.0.0.1:{port}"
[polling]
interval = "{interval_ms}ms"
[accounts.main]
account_sid = "{account_sid}"
username = "{username}"
password = "{password}"
base_url = "{base_url}"
ca_file = "{ca_file}"
requests_per_second = {requests_per_second}
max_concurrency = {max_concurrency}
[watchlist]
files = ["factors.csv"]
"""


@dataclass(frozen=True, slots=True)
class Watchlist:
    """A configuration file, its CSV file of factors, and the request paths of the factors."""

    config: Path
    factors: Path
    paths: tuple[str, ...]
    factor_sids: tuple[str, ...]


def watchlist(
    folder: Path,
    upstream: Upstream,
    *,
    factors: int,
    interval_seconds: float,
    port: int,
    requests_per_second: int = 2_000,
    max_concurrency: int = 100,
    teams: int = 0,
) -> Watchlist:
    """Write the files of a watchlist into a new folder; with ``teams``, each factor has the label of one."""
    folder.mkdir()
    rng = random.Random(0)
    sids = tuple(f"YF{rng.getrandbits(128):032x}" for _ in range(factors))
    rows = [(SERVICE_SID, f"person-{number:09d}", sid, f"factor-{number:09d}") for number, sid in enumerate(sids)]
    listed = folder / "factors.csv"
    with listed.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("service_sid", "identity", "factor_sid", "name", *(["labels.team"] if teams else ())))
        for number, row in enumerate(rows):
            table.writerow((*row, *([f"team-{number % teams:02d}"] if teams else ())))
    config = folder / "config.toml"
    config.write_text(
        _CONFIG.format(
            port=port,
            interval_ms=round(interval_seconds * 1000),
            account_sid=ACCOUNT_SID,
            username=USERNAME,
            password=PASSWORD,
            base_url=upstream.base_url,
            ca_file=upstream.ca_file,
            requests_per_second=requests_per_second,
            max_concurrency=max_concurrency,
        ),
        encoding="utf-8",
    )
    paths = tuple(f"/v2/Services/{service}/Entities/{who}/Factors/{sid}" for service, who, sid, _ in rows)
    return Watchlist(config, listed, paths, sids)
