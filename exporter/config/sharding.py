"""Which part of a watchlist belongs to which of several exporters; no state but the shard's number."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_ORDINAL = re.compile(r"-([0-9]{1,9})")
_DIGEST_BYTES = 8


class Shard(NamedTuple):
    """One of ``shards`` parts; the first has the ordinal 0."""

    ordinal: int = 0
    shards: int = 1

    def holds(self, account: str, service_sid: str, identity: str) -> bool:
        """Return whether an entity, and with it all of its factors, belongs to this shard.

        A rendezvous hash: the shard whose hash with the entity is the highest has it, so that one shard more
        takes 1/n of the entities and moves no other.
        """
        if self.shards == 1:
            return True
        name = f"{account}\0{service_sid}\0{identity}"
        entity = hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES)

        def weight(ordinal: int) -> tuple[bytes, int]:
            of_shard = entity.copy()
            of_shard.update(b"\0%d" % ordinal)
            return of_shard.digest(), ordinal

        return max(range(self.shards), key=weight) == self.ordinal


class ShardError(ValueError):
    """A shard that can't be told; the message says why, ``hint`` what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def shard_of(text: str, environ: Mapping[str, str], hostname: str) -> Shard:
    """Return the shard that ``I/N`` or ``auto/N`` means; raises ShardError.

    ``auto`` takes the ordinal that ends the name of a StatefulSet's pod: ``POD_NAME``, else the host's name.
    """
    first, _, shards = text.partition("/")
    if first != "auto":
        return Shard(int(first), int(shards))
    pod = environ.get("POD_NAME") or hostname
    found = _ORDINAL.search(pod, pod.rfind("-")) if "-" in pod else None
    if found is None or found.end() != len(pod):
        raise ShardError(
            "finds no ordinal at the end of the pod's name", "run it in a StatefulSet, or write the shard as I/N"
        )
    ordinal = int(found[1])
    if ordinal >= int(shards):
        raise ShardError(
            f"is the pod with ordinal {ordinal}, and there are {shards} shards", f"raise the count to {ordinal + 1}"
        )
    return Shard(ordinal, int(shards))
