"""The factor families: as a prometheus_client collector, and as lines that are rendered only when they change.

The lines of a family are kept in chunks of 24 factors; a scrape only collects the chunks. Of a chunk whose factors
all have the same value, only that is kept; its lines are made of label texts that the families share. The text of a
scrape is equal, byte for byte, to what prometheus_client renders from the collector.
"""

from __future__ import annotations

from array import array
from fnmatch import fnmatchcase
from functools import lru_cache
from math import copysign, nan
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.exposition.catalogue import FACTOR_FAMILIES, FACTOR_INFO, FactorFamily
from exporter.exposition.pieces import Alike, Column
from exporter.polling.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Outcome
    from exporter.watched import FactorKey, WatchedFactor

BLOCK_FACTORS = 24  # per chunk: with more, a scrape collects fewer chunks, but a change rewrites a larger one


def shown_families(patterns: Iterable[str]) -> tuple[FactorFamily, ...]:
    """Return the factor families that match any of the patterns (shell wildcards), in catalogue order.

    A pattern is matched against the full name and against the part after ``twilio_verify_factor_``.
    """
    wanted = list(patterns)
    return tuple(
        family
        for family in FACTOR_FAMILIES
        if any(fnmatchcase(family.name, pattern) or fnmatchcase(family.short_name, pattern) for pattern in wanted)
    )


def no_identity(_watched: WatchedFactor) -> str:
    """Return an empty label value, for exporters that don't expose identities."""
    return ""


def escape_label_value(value: str) -> str:
    """Return a label value escaped for the text formats."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class FactorSamples:
    """Values and labels of a factor's samples; the collector and the rendered lines share them.

    ``identity`` returns the value of the label ``identity``, or an empty string to leave it out.
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
        """Return the factor's value in each exposed family, ``None`` for no sample."""
        if record.watched.paused:
            return tuple([family.value(record) if family.of_paused else None for family in self.families])
        return tuple([value_of(record) for value_of in self._values])

    @staticmethod
    def labels(record: FactorRecord) -> dict[str, str]:
        """Return the labels of all samples of a factor, including its watchlist entry's, without empty ones."""
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
    """Collects the factor families of the given records for prometheus_client."""

    def __init__(self, samples: FactorSamples, records: Callable[[], Iterable[FactorRecord]]) -> None:
        self._samples = samples
        self._records = records

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples, so that registering the collector does not collect."""
        return [Metric(f.base_name, f.help, f.kind) for f in self._samples.families]

    def collect(self) -> Iterable[Metric]:
        """Return each family with its samples."""
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


class _Labels:
    """The label texts of the factors, up to 24 per block, ordered by the factors' numbers.

    ``present`` has one bit per factor of a block, set if the factor is watched; ``texts`` has line feeds between.
    """

    __slots__ = ("present", "texts")

    def __init__(self) -> None:
        self.present = array("I")
        self.texts: list[bytes] = []

    def make_room(self, number: int) -> None:
        """Add a block if this factor is the first of one."""
        if number // BLOCK_FACTORS == len(self.texts):
            self.present.append(0)
            self.texts.append(b"")

    def put(self, number: int, text: bytes) -> None:
        """Set a factor's label text; an empty one removes it."""
        block, index = divmod(number, BLOCK_FACTORS)
        present, bit = self.present[block], 1 << index
        if text and bit > present:  # after all others, as when factors are added
            self.texts[block] = b"%s\n%s" % (self.texts[block], text) if present else text
        else:
            texts = self.texts[block].split(b"\n")
            place = (present & (bit - 1)).bit_count()
            texts[place : place + bool(present & bit)] = [text] if text else []
            self.texts[block] = b"\n".join(texts)
        self.present[block] = present | bit if text else present & ~bit


class _FamilyLines(Column):
    """The lines of one family, up to 24 factors per chunk, ordered by the factors' numbers.

    ``_present`` has one bit per factor of a chunk, set if the factor has a line; the number of set bits below it is
    the line's index in the chunk. ``labels`` are the label texts of all lines, ``None`` where others have further
    labels.
    """

    __slots__ = ("_labels", "_name", "_present")

    def __init__(self, name: bytes, labels: _Labels | None) -> None:
        super().__init__()
        self._name = name
        self._labels = labels
        self._present = array("I")

    def make_room(self, number: int) -> None:
        """Add a chunk if this factor is the first of one."""
        if number // BLOCK_FACTORS == len(self):
            self._present.append(0)
            self.append(b"")

    def has(self, number: int) -> int:
        """Return whether a factor has a line."""
        return self._present[number // BLOCK_FACTORS] >> number % BLOCK_FACTORS & 1

    def revalue(self, number: int, value: bytes) -> None:
        """Replace the value at the end of a factor's line."""
        block, index = divmod(number, BLOCK_FACTORS)
        text, present = bytes(self[block]), self._present[block]
        place, count = (present & ((1 << index) - 1)).bit_count(), present.bit_count()
        if 2 * place < count:  # split from the nearer end, as every fetch changes lines of three families
            lines, at = text.split(b"\n", place + 1), place
        else:
            lines, at = text.rsplit(b"\n", count + 1 - place), place - count - 1
        line = lines[at]
        lines[at] = line[: line.rindex(b" ") + 1] + value
        self[block] = b"\n".join(lines)

    def put(self, number: int, labels: bytes, value: bytes) -> None:
        """Set a factor's line."""
        block, index = divmod(number, BLOCK_FACTORS)
        chunk, present, bit = self[block], self._present[block], 1 << index
        self._present[block] = present | bit
        if self._same(block) and (present in (0, bit) or (isinstance(chunk, Alike) and chunk.value == value)):
            self._unite(block, value)
            return
        line = b"%s%s %s" % (self._name, labels, value)
        if bit > present:  # after all others, as when factors are added
            self[block] = b"%s%s\n" % (chunk, line)
        else:
            self._replace(block, bit, present, [line])

    def remove(self, number: int) -> None:
        """Remove a factor's line, if there is one."""
        block, index = divmod(number, BLOCK_FACTORS)
        chunk, present, bit = self[block], self._present[block], 1 << index
        if not present & bit:
            return
        self._present[block] = present & ~bit
        if present != bit and isinstance(chunk, Alike) and self._same(block):
            self._unite(block, chunk.value)
        else:
            self._replace(block, bit, present, [])

    def may_unite(self, number: int) -> bool:
        """Return whether every factor of a chunk has a line, and the chunk is made of these."""
        block = number // BLOCK_FACTORS
        return self._same(block) and not isinstance(self[block], Alike)

    def unite(self, number: int, value: bytes) -> None:
        """Keep only the value of a factor's chunk, which all of its lines must have."""
        self._unite(number // BLOCK_FACTORS, value)

    def _same(self, block: int) -> bool:
        """Return whether the labels are those of the lines, and of no others."""
        return self._labels is not None and self._labels.present[block] == self._present[block]

    def _unite(self, block: int, value: bytes) -> None:
        if self._labels is not None:
            self[block] = Alike(self._name, self._labels.texts[block], self._present[block].bit_count(), value)

    def _replace(self, block: int, bit: int, present: int, line: list[bytes]) -> None:
        place = (present & (bit - 1)).bit_count()
        lines = bytes(self[block]).split(b"\n")
        lines[place : place + bool(present & bit)] = line
        self[block] = b"\n".join(lines)


class FactorExposition(Observer):
    """The rendered lines of every watched factor, rendered again at every event that may change them.

    Data is kept in lists indexed by a factor's number instead of one object per factor, which the garbage collector
    would have to traverse.
    """

    def __init__(self, samples: FactorSamples) -> None:
        self._reset(samples)

    def _reset(self, samples: FactorSamples) -> None:
        self.samples = samples
        self._headers = {
            False: [Column(_header(family, openmetrics=False)) for family in samples.families],
            True: [Column(_header(family, openmetrics=True)) for family in samples.families],
        }
        self._labels = _Labels()
        self._lines = [
            _FamilyLines(family.name.encode(), None if family is FACTOR_INFO else self._labels)
            for family in samples.families
        ]
        self._numbers: dict[FactorKey, int] = {}
        self._free: list[int] = []
        self._keys: list[FactorKey | None] = []
        # What the lines were last rendered from, by number:
        self._watched: list[WatchedFactor | None] = []
        self._factor_types: list[str] = []
        self._entity_sids: list[str] = []
        self._values = array("d")  # one per family, not a number without a line

    def render_as(self, samples: FactorSamples, records: Iterable[FactorRecord]) -> None:
        """Replace all lines by those of these records, with other samples."""
        self._reset(samples)
        for record in records:
            self.update(record)

    def update(self, record: FactorRecord) -> None:
        """Render the lines of a factor that changed; a new factor is added."""
        number = self._numbers.get(record.watched.key)
        if number is None:
            number = self._number(record.watched.key)
        families = self.samples.families
        values = self.samples.values(record)
        relabelled = self._watched[number] is not record.watched
        info_changed = (
            self._factor_types[number] != record.factor_type or self._entity_sids[number] != record.entity_sid
        )
        labels: bytes | None = None
        if relabelled:
            labels = _label_text(self.samples.labels(record))
            self._labels.put(number, labels)
        width = len(families)
        kept = slice(number * width, (number + 1) * width)
        before = self._values[kept]
        self._values[kept] = array("d", [nan if value is None else value for value in values])
        # Most values differ from those of the factor before: only the others may be the same in a whole chunk.
        others = self._values[kept.start - width : kept.start] if number % BLOCK_FACTORS else self._values[kept]
        rows = zip(families, self._lines, values, before, others, strict=True)
        for place, (family, lines, value, old, other) in enumerate(rows):
            renewed = relabelled or (info_changed and family is FACTOR_INFO)
            if value == old and not renewed and (value or copysign(1.0, value) == copysign(1.0, old)):  # -0.0
                continue
            if value is None:
                if old == old or renewed:  # else there is no line: not a number isn't equal to itself
                    lines.remove(number)
                continue
            text = _number(value)
            if not renewed and lines.has(number):
                lines.revalue(number, text)
            elif family is FACTOR_INFO:
                lines.put(number, _label_text(self.samples.info_labels(record)), text)
            else:
                labels = labels or _label_text(self.samples.labels(record))
                lines.put(number, labels, text)
            if value == other and lines.may_unite(number) and self._alike(number, place):
                lines.unite(number, text)
        self._watched[number] = record.watched
        self._factor_types[number], self._entity_sids[number] = record.factor_type, record.entity_sid

    def _alike(self, number: int, place: int) -> bool:
        """Return whether all factors of a chunk have the same value in a family, if they have one."""
        width = len(self.samples.families)
        start = number - number % BLOCK_FACTORS
        of_chunk = self._values[start * width + place : (start + BLOCK_FACTORS) * width : width]
        return of_chunk.tobytes() == of_chunk[:1].tobytes() * len(of_chunk)  # as bytes: 0.0 equals -0.0

    def remove(self, key: FactorKey) -> None:
        """Remove a factor's lines."""
        number = self._numbers.pop(key)
        self._labels.put(number, b"")
        for lines in self._lines:
            lines.remove(number)
        self._keys[number] = self._watched[number] = None
        self._factor_types[number] = self._entity_sids[number] = ""
        self._free.append(number)

    watched = revised = withdrawn = interval_changed = update

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Render what a fetch changed."""
        self.update(record)

    def forgotten(self, record: FactorRecord) -> None:
        """Drop a factor's lines."""
        self.remove(record.watched.key)

    def _number(self, key: FactorKey) -> int:
        if self._free:
            number = self._free.pop()
        else:
            number = len(self._keys)
            self._keys.append(None)
            self._watched.append(None)
            self._factor_types.append("")
            self._entity_sids.append("")
            self._values.extend([nan] * len(self.samples.families))
            self._labels.make_room(number)
            for lines in self._lines:
                lines.make_room(number)
        self._keys[number] = key
        self._numbers[key] = number
        return number

    def __iter__(self) -> Iterator[FactorKey]:
        """Iterate over the factors in the order of their lines."""
        return (key for key in self._keys if key is not None)

    def columns(self, *, openmetrics: bool) -> list[Column]:
        """Return the columns of the factor families, each preceded by its HELP and TYPE lines."""
        return [column for pair in zip(self._headers[openmetrics], self._lines, strict=True) for column in pair]


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
    return _nonzero(value) if value else _formatted(value)  # 0.0 and -0.0 would be one key of the cache


@lru_cache(maxsize=64)  # several families of a factor have the same time
def _nonzero(value: float) -> bytes:
    return _formatted(value)


def _formatted(value: float) -> bytes:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # the library's, for equal bytes
    return text.encode()
