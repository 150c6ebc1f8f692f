"""The factor families: a prometheus_client collector, and the same lines kept ready between scrapes.

A line is rendered when its value changes, within the piece of bytes that it shares with the same line of a few
dozen other factors: a scrape only gathers the pieces. What it gets is byte for byte what prometheus_client
renders of the collector.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from math import copysign
from struct import Struct
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.exposition.catalogue import FACTOR_FAMILIES, FACTOR_INFO, FactorFamily
from exporter.exposition.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exporter.polling.ledger import FactorRecord
    from exporter.watched import FactorKey, WatchedFactor

BLOCK_FACTORS = 24


def shown_families(patterns: Iterable[str]) -> tuple[FactorFamily, ...]:
    """Return the factor families that one of the patterns (shell wildcards) names, in catalogue order.

    A pattern names a family by its whole name or by what follows ``twilio_verify_factor_``.
    """
    wanted = list(patterns)
    return tuple(
        family
        for family in FACTOR_FAMILIES
        if any(fnmatchcase(family.name, pattern) or fnmatchcase(family.short_name, pattern) for pattern in wanted)
    )


def no_identity(_watched: WatchedFactor) -> str:
    """Return the label value for an identity that is not shown."""
    return ""


def escape_label_value(value: str) -> str:
    """Return a label value as the text formats write it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class FactorSamples:
    """What the samples of a factor are: shared by the collector and the ready lines.

    ``identity`` returns the value of the label ``identity``, empty where it is not shown.
    """

    def __init__(
        self,
        families: tuple[FactorFamily, ...] = FACTOR_FAMILIES,
        identity: Callable[[WatchedFactor], str] = no_identity,
    ) -> None:
        self.families = families
        self._values = tuple(family.value for family in families)
        self._identity = identity

    def values(self, record: FactorRecord) -> tuple[float | None, ...]:
        """Return the factor's value in each shown family, ``None`` where it has no sample now."""
        if record.watched.paused:
            return tuple([family.value(record) if family.of_paused else None for family in self.families])
        return tuple([value_of(record) for value_of in self._values])

    @staticmethod
    def labels(record: FactorRecord) -> dict[str, str]:
        """Return the labels that all samples of a factor share, the user's own included; empty ones are absent."""
        key = record.watched.key
        return {
            **{name: value for name, value in record.watched.labels if value},
            "account": key.account,
            "service_sid": key.service_sid,
            "factor": record.watched.name,
        }

    def info_labels(self, record: FactorRecord) -> dict[str, str]:
        """Return the labels of the info sample."""
        labels = self.labels(record)
        labels["factor_sid"] = record.watched.key.factor_sid
        labels["factor_type"] = record.factor_type
        labels["entity_sid"] = record.entity_sid
        if identity := self._identity(record.watched):
            labels["identity"] = identity
        return labels


class FactorCollector(Collector):
    """The factor families of these records as prometheus_client sees them."""

    def __init__(self, samples: FactorSamples, records: Callable[[], Iterable[FactorRecord]]) -> None:
        self._samples = samples
        self._records = records

    def describe(self) -> Iterable[Metric]:
        """Yield the families without samples, so that registering this collector collects nothing."""
        return [Metric(f.base_name, f.help, f.kind) for f in self._samples.families]

    def collect(self) -> Iterable[Metric]:
        """Yield each family with its samples."""
        metrics = {
            family.name: Metric(family.base_name, family.help, family.kind) for family in self._samples.families
        }
        for record in self._records():
            labels = self._samples.labels(record)
            for family, value in zip(self._samples.families, self._samples.values(record), strict=True):
                if value is not None:
                    own = self._samples.info_labels(record) if family is FACTOR_INFO else labels
                    metrics[family.name].add_sample(family.name, own, value)
        return metrics.values()


class _Block:
    """The lines of up to 24 factors: for each family one piece, in the order of the factors.

    ``present`` has a bit for each factor with a line in the family's piece; the bits below it tell which line.
    """

    __slots__ = ("keys", "pieces", "present")

    def __init__(self, families: int) -> None:
        self.keys: list[FactorKey | None] = []
        self.present = [0] * families
        self.pieces = [Piece() for _ in range(families)]

    def revalue(self, position: int, index: int, number: bytes) -> None:
        """Give a factor's line another value."""
        piece = self.pieces[position]
        lines = piece.text.split(b"\n")
        place = (self.present[position] & ((1 << index) - 1)).bit_count()
        line = lines[place]
        lines[place] = line[: line.rindex(b" ") + 1] + number
        piece.replace(b"\n".join(lines))

    def put(self, position: int, index: int, line: bytes) -> None:
        """Give a factor this line, or none where it is empty."""
        piece, present, bit = self.pieces[position], self.present[position], 1 << index
        if line and bit > present:  # behind all others, as when factors are added
            piece.replace(piece.text + line + b"\n")
            self.present[position] = present | bit
            return
        number = (present & (bit - 1)).bit_count()
        lines = piece.text.split(b"\n")
        lines[number : number + bool(present & bit)] = [line] if line else []
        piece.replace(b"\n".join(lines))
        self.present[position] = present | bit if line else present & ~bit


class _Place:
    """Where a factor's lines are, and what they were rendered from.

    ``values`` are packed doubles: one object, which the garbage collector does not follow.
    """

    __slots__ = ("block", "entity_sid", "factor_type", "index", "values", "watched")

    def __init__(self, block: _Block, index: int, values: bytes) -> None:
        self.block = block
        self.index = index
        self.values = values
        self.watched: WatchedFactor | None = None
        self.factor_type = ""
        self.entity_sid = ""


class FactorExposition:
    """The ready lines of every watched factor."""

    def __init__(self, samples: FactorSamples) -> None:
        self.samples = samples
        self._packing = Struct(f"={len(samples.families)}d")
        self._no_values = bytes(self._packing.size)
        self._headers = {
            False: [Piece(_header(family, openmetrics=False)) for family in samples.families],
            True: [Piece(_header(family, openmetrics=True)) for family in samples.families],
        }
        self._blocks: list[_Block] = []
        self._places: dict[FactorKey, _Place] = {}
        self._free: list[tuple[_Block, int]] = []

    def update(self, record: FactorRecord) -> None:
        """Render what changed of a factor, and add it if it is new."""
        place = self._places.get(record.watched.key) or self._place(record.watched.key)
        values = self.samples.values(record)
        renamed = place.watched is not record.watched
        retold = place.factor_type != record.factor_type or place.entity_sid != record.entity_sid
        labels: bytes | None = None
        present = place.block.present
        for position, (value, old) in enumerate(zip(values, self._packing.unpack(place.values), strict=True)):
            shown = present[position] >> place.index & 1
            if value is None:
                if shown:
                    place.block.put(position, place.index, b"")
                continue
            relabelled = renamed or (retold and self.samples.families[position] is FACTOR_INFO)
            if shown and not relabelled:
                if value != old or (not value and copysign(1.0, value) != copysign(1.0, old)):  # -0.0
                    place.block.revalue(position, place.index, _number(value))
            else:
                family = self.samples.families[position]
                if family is FACTOR_INFO:
                    text = _label_text(self.samples.info_labels(record))
                else:
                    text = labels = labels or _label_text(self.samples.labels(record))
                place.block.put(position, place.index, b"%s%s %s" % (family.name.encode(), text, _number(value)))
        place.values = self._packing.pack(*[0.0 if value is None else value for value in values])
        place.watched = record.watched
        place.factor_type, place.entity_sid = record.factor_type, record.entity_sid

    def remove(self, key: FactorKey) -> None:
        """Drop a factor's lines."""
        place = self._places.pop(key)
        block, index = place.block, place.index
        block.keys[index] = None
        for position, present in enumerate(block.present):
            if present >> index & 1:
                block.put(position, index, b"")
        self._free.append((block, index))

    def _place(self, key: FactorKey) -> _Place:
        if self._free:
            block, index = self._free.pop()
            block.keys[index] = key
        else:
            if not self._blocks or len(self._blocks[-1].keys) == BLOCK_FACTORS:
                self._blocks.append(_Block(len(self.samples.families)))
            block = self._blocks[-1]
            index = len(block.keys)
            block.keys.append(key)
        place = self._places[key] = _Place(block, index, self._no_values)
        return place

    def __iter__(self) -> Iterator[FactorKey]:
        """Yield the factors in the order of their lines."""
        for block in self._blocks:
            yield from (key for key in block.keys if key is not None)

    def pieces(self, *, openmetrics: bool) -> list[Piece]:
        """Return the pieces of the exposition; their bytes of one moment, joined, are the page."""
        out: list[Piece] = []
        for position, header in enumerate(self._headers[openmetrics]):
            out.append(header)
            out.extend([block.pieces[position] for block in self._blocks])
        return out


def _header(family: FactorFamily, *, openmetrics: bool) -> bytes:
    name = family.base_name if openmetrics else family.name
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        text = text.replace('"', '\\"')
    return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n".encode()


def _label_text(labels: dict[str, str]) -> bytes:
    pairs = (f'{name}="{escape_label_value(value)}"' for name, value in sorted(labels.items()))
    return f"{{{','.join(pairs)}}}".encode()


def _number(value: float) -> bytes:
    if value == 1.0:
        return b"1.0"
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # the library's, for equal bytes
    return text.encode()
