"""Sharding: which part of the watchlist belongs to which of several exporters.

A module of its own because the loader only applies it: the hash and the rules for pod names are tested without a
configuration.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_ORDINAL = re.compile(r"-([0-9]{1,9})")
_DIGEST_BYTES = 8


class Shard(NamedTuple):
    """One of ``shards`` parts; the first has ordinal 0."""

    ordinal: int = 0
    shards: int = 1

    def holds(self, account: str, service_sid: str, identity: str) -> bool:
        """Return whether an entity, together with its factors, belongs to this shard.

        This is rendezvous hashing: an entity belongs to the shard whose hash with it is the highest, so an
        additional shard takes 1/n of the entities, and no other entity moves. The case of the identity doesn't
        matter: the API may write it in another case than the watchlist.
        """
        if self.shards == 1:
            return True
        name = f"{account}\0{service_sid}\0{identity.lower()}"
        entity = hashlib.blake2b(name.encode(), digest_size=_DIGEST_BYTES)

        def weight(ordinal: int) -> tuple[bytes, int]:
            of_shard = entity.copy()
            of_shard.update(b"\0%d" % ordinal)
            return of_shard.digest(), ordinal

        return max(range(self.shards), key=weight) == self.ordinal


class ShardError(ValueError):
    """The shard can't be determined; the message says why, ``hint`` what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def shard_of(text: str, environ: Mapping[str, str], hostname: str) -> Shard:
    """Return the shard that ``I/N`` or ``auto/N`` stands for; raises ShardError.

    ``auto`` takes the ordinal at the end of the name of a StatefulSet's pod: ``POD_NAME``, or else the host name.
    """
    first, _, shards = text.partition("/")
    if first != "auto":
        return Shard(int(first), int(shards))
    pod = environ.get("POD_NAME") or hostname
    found = _ORDINAL.search(pod, pod.rfind("-")) if "-" in pod else None
    if found is None or found.end() != len(pod):
        raise ShardError(
            "needs a pod name that ends in an ordinal", "run it in a StatefulSet, or write the shard as I/N"
        )
    ordinal = int(found[1])
    if ordinal >= int(shards):
        raise ShardError(
            f"has too few shards for the pod with ordinal {ordinal}", f"raise the count to {ordinal + 1}"
        )
    return Shard(ordinal, int(shards))
