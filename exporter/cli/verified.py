"""What ``healthcheck --verified`` makes of exporters' answers; apart because a probe doesn't import it."""

from __future__ import annotations

import http.client
import re
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.cli.access import ClosedError, NoAnswerError, get

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.cli.access import Access

_LONGEST_ANSWER = 1 << 20
_MOST_SHOWN = 10
_ACCOUNT = re.compile(r"account (?P<name>[a-z0-9_-]+) (?P<verdict>passes|fails): [ -~]+")
_FOUND = re.compile(r"\b([0-9]+) of [0-9]+ factors found")
_SHARD = re.compile(r"shard ([0-9]+)/([0-9]+): ([0-9]+) of ([0-9]+) listed factors")


class Proof(NamedTuple):
    """What an exporter at one URL has proved.

    ``found`` are the numbers of found factors by account. ``listed`` of ``total`` factors of the watchlist are for
    its ``shard``, an ordinal and how many there are; ``None`` if it didn't say. ``final`` and ``refused``
    are as in :class:`~exporter.cli.healthcheck.CheckResult`.
    """

    problems: tuple[str, ...]
    final: bool = False
    refused: bool = False
    found_lines: tuple[str, ...] = ()
    found: Mapping[str, int] = MappingProxyType({})
    shard: tuple[int, int] | None = None
    listed: int = 0
    total: int = 0


def check_verified(url: str, access: Access) -> Proof:
    """Return what the exporter at ``url`` has proved, or why that isn't known."""
    try:
        status, text = get(url, "/-/verified", access, longest=_LONGEST_ANSWER)
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            return Proof((_refused(status, access),), refused=True)
        ready, why = get(url, "/-/ready", access, longest=_LONGEST_ANSWER)
    except ClosedError as problem:
        hint = "name one with --cert-file and --key-file (in the Helm chart, tests.tlsConfig)"
        return Proof((problem.with_hint(hint),), final=problem.final)
    except NoAnswerError as problem:
        return Proof((str(problem),), final=problem.final)
    *lines, last = text.splitlines() or [""]
    accounts = [found for line in lines if (found := _ACCOUNT.fullmatch(line))]
    shard = _SHARD.fullmatch(last)
    known = status in (http.client.OK, http.client.SERVICE_UNAVAILABLE) and text.isascii()
    if not known or shard is None or not accounts or len(accounts) < len(lines):
        return Proof((f"HTTP {status}, which is no answer of an exporter that knows /-/verified",))
    ordinal, shards, listed, total = map(int, shard.groups())
    failing = [found[0] for found in accounts if found["verdict"] == "fails"]
    problems = list(failing)
    if bool(failing) == (status == http.client.OK):
        problems.append(f"HTTP {status} contradicts the lines of the response")
    if ready != http.client.OK:
        problems.append(why if why.startswith("not ready: ") and why.isprintable() else f"/-/ready: HTTP {ready}")
    return Proof(
        problems=tuple(problems),
        refused=any("credentials refused" in line for line in failing),
        found_lines=(*(found[0] for found in accounts if found["verdict"] == "passes"), last),
        found={of["name"]: int(count[1]) if (count := _FOUND.search(of[0])) else 0 for of in accounts},
        shard=(ordinal, shards),
        listed=listed,
        total=total,
    )


def _refused(status: int, access: Access) -> str:
    if status == http.client.FORBIDDEN:
        return "HTTP 403: refused; a proxy may be in front of it"
    if access.authorization:
        return "HTTP 401: it refuses the user name or the password"
    return (
        "HTTP 401: it requires a password, so nothing was checked; name files with --username-file and "
        "--password-file (in the Helm chart, tests.basicAuth)"
    )


def add_up(proofs: list[Proof]) -> list[str]:
    """Return what is wrong with the answers of all shards of a watchlist."""
    counts = sorted({proof.shard[1] for proof in proofs if proof.shard})
    if len(counts) > 1:
        return [f"the exporters disagree about the number of shards: {_or(counts)}"]
    ordinals = sorted(proof.shard[0] for proof in proofs if proof.shard)
    problems = [
        f"shard {ordinal}/{counts[0]} responded {ordinals.count(ordinal)} times; give each shard's own URL once"
        for ordinal in sorted({one for one in ordinals if ordinals.count(one) > 1})
    ]
    if missing := [f"{one}/{counts[0]}" for one in range(counts[0]) if one not in ordinals]:
        shards = missing if len(missing) <= _MOST_SHOWN else [*missing[:_MOST_SHOWN], f"{len(missing)} in all"]
        problems.append(f"no response of shard {', '.join(shards)}; add the URL of every shard")
    if problems:
        return problems
    totals = sorted({proof.total for proof in proofs})
    if len(totals) > 1:
        return [f"the exporters disagree about the number of listed factors: {_or(totals)}"]
    listed = sum(proof.listed for proof in proofs)
    if listed != totals[0]:
        return [f"the shards have {listed} of {totals[0]} listed factors"]
    something = any(proof.problems or any(proof.found.values()) for proof in proofs)
    return [] if something else ["no factor is found by any account"]


def summary(proofs: list[Proof]) -> list[str]:
    """Return what exporters that add up have proved together, and of which accounts that is nothing."""
    found: Counter[str] = Counter()
    for proof in proofs:
        found.update(proof.found)
    proved = [account for account, factors in found.items() if factors]
    lines = [f"without a factor that was found: account {account}" for account in found if account not in proved]
    counts = _counted(found.total(), "factor"), _counted(len(proved), "account"), _counted(len(proofs), "shard")
    return [*lines, "verified: {} found, of {}, in {}".format(*counts)]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _or(numbers: list[int]) -> str:
    return " or ".join(map(str, numbers))
