"""The watchlist of a configuration, put together from its sources: configuration file, watchlist files and URLs.

Each source is usable as a whole, or not at all. What is listed twice is an error of the later one, in this order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.config.errors import ConfigError, ConfigWarning, ErrorDetail
from exporter.config.files import UnreadableError, shown_path
from exporter.config.http_source import (
    Saved,
    SourceAnswer,
    SourceFailure,
    add_answer,
    document_of,
    tables_of,
)
from exporter.config.last_good import FILES, Fallback, ListedFile, emptied, emptied_source, stand_in
from exporter.config.watchlist import TablePlace, source_place

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.config.http_source import HttpSource
    from exporter.config.last_good import LastGood
    from exporter.config.settings import Settings
    from exporter.config.watchlist import Watchlist

OWN = ""
"""The source of the entries of the configuration file itself."""


class Inputs(NamedTuple):
    """What a watchlist is put together from.

    ``own`` returns a watchlist with the entries of the configuration file. ``add_files`` adds those of the
    watchlist files, adds their contents to a digest, and returns what each lists. ``patterns`` are the places of
    the paths and patterns of these files. ``digest`` has what the digest of a configuration begins with.
    ``last_good`` is ``None`` where there is none to use.
    """

    settings: Settings
    own: Callable[[], Watchlist]
    add_files: Callable[[Watchlist, hashlib._Hash], list[ListedFile]]
    patterns: Mapping[str, str]
    http: Sequence[HttpSource]
    digest: hashlib._Hash
    last_good: Callable[[], LastGood | None] | None


@dataclass(slots=True)
class Assembled:
    """A watchlist, with what is known of its sources.

    ``watchlist.errors`` make it unusable. ``answers`` are those in use, by URL source, and ``entries`` counts what
    each of them lists. ``refused`` has the errors of the URL sources without a usable answer. ``files`` is what all
    sources list, ``None`` where there is nothing to save.
    """

    watchlist: Watchlist
    digest: hashlib._Hash
    files: list[ListedFile] | None = field(default_factory=list)
    answers: dict[str, SourceAnswer] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    refused: dict[str, tuple[ErrorDetail, ...]] = field(default_factory=dict)
    warnings: list[ConfigWarning] = field(default_factory=list)
    fallback: Fallback | None = None


class _Pass(NamedTuple):
    """One attempt: the watchlist of some sources, what each of them lists, and the errors of each."""

    watchlist: Watchlist
    digest: hashlib._Hash
    listed: dict[str, list[ListedFile]]
    errors: dict[str, list[ErrorDetail]]


def assemble(
    inputs: Inputs, answers: Mapping[str, SourceAnswer | SourceFailure], replaceable: Collection[str]
) -> Assembled:
    """Put a watchlist together.

    A source without an answer is left out. A ``replaceable`` one that can't be used is replaced by its last good
    entries, or left out if it has none and is a URL; any other makes the watchlist unusable.
    """
    return _Assembly(inputs, answers).run(replaceable)


class _Assembly:
    def __init__(self, inputs: Inputs, answers: Mapping[str, SourceAnswer | SourceFailure]) -> None:
        self._inputs = inputs
        self._answers = answers
        settings = inputs.settings
        self._accounts = {name: account.account_sid for name, account in settings.accounts.items()}
        self._trouble: list[ErrorDetail] = []

    def run(self, replaceable: Collection[str]) -> Assembled:
        bad: dict[str, list[ErrorDetail]] = {}
        while True:
            found = self._pass(bad)
            errors = found.errors or self._emptied(found, bad)
            source = next(iter(errors), None)
            if source is None:
                return self._completed(found, bad)
            if source not in replaceable or found.watchlist.without_account:
                if not found.errors:
                    found.watchlist.errors.extend(error for of in errors.values() for error in of)
                return self._unusable(found)
            bad[source] = errors[source]

    def _pass(self, without: Collection[str]) -> _Pass:
        """Add every source but these."""
        inputs = self._inputs
        watchlist, digest = inputs.own(), inputs.digest.copy()
        found = _Pass(watchlist, digest, {}, {})
        done = self._note_errors(found, OWN, 0)
        if FILES not in without:
            found.listed[FILES] = inputs.add_files(watchlist, digest)
            done = self._note_errors(found, FILES, done)
        for source in inputs.http:
            answer = None if source.name in without else self._answers.get(source.name)
            if answer is None or (isinstance(answer, SourceAnswer) and answer.saved is not None):
                continue
            factors, entities = len(watchlist.factors), len(watchlist.entities)
            try:
                self._add_answer(watchlist, source, answer)
            except UnreadableError as error:
                watchlist.errors.append(error.detail(source.place))
            added = watchlist.factors[factors:], watchlist.entities[entities:]
            found.listed[source.name] = [ListedFile("", "", *added, source.name)]
            done = self._note_errors(found, source.name, done)
        return found

    def _add_answer(self, watchlist: Watchlist, source: HttpSource, answer: SourceAnswer | SourceFailure) -> None:
        if isinstance(answer, SourceFailure):
            raise UnreadableError(answer.problem, answer.hint)
        add_answer(watchlist, source.name, answer.content)

    def _note_errors(self, found: _Pass, source: str, done: int) -> int:
        if errors := found.watchlist.errors[done:]:
            found.errors[source] = errors
        return len(found.watchlist.errors)

    # Sources that list nothing although they did

    def _emptied(self, found: _Pass, bad: Collection[str]) -> dict[str, list[ErrorDetail]]:
        """Return the errors of sources that list nothing although their last good entries could be used."""
        inputs = self._inputs
        if inputs.settings.watchlist.allow_empty or inputs.last_good is None:
            return {}
        files = [file for file in found.listed.get(FILES, ()) if FILES not in bad]
        listing = {file.pattern for file in files if file.lists}
        files_suspect = FILES not in bad and (inputs.patterns.keys() - listing or not all(of.lists for of in files))
        empty = [of for of in inputs.http if of.name in found.listed and not found.listed[of.name][0].lists]
        if (not files_suspect and not empty) or (stored := self._stored) is None:
            return {}
        errors: dict[str, list[ErrorDetail]] = {}
        if files_suspect:
            lost = list(emptied(stored, self._accounts, inputs.patterns, files, found.watchlist))
            if lost and self._restorable(FILES, bad):
                errors[FILES] = lost
        for source in empty:
            error = emptied_source(stored, self._accounts, source.name, source.place, found.watchlist)
            if error is not None and self._restorable(source.name, bad):
                errors[source.name] = [error]
        return errors

    def _restorable(self, source: str, bad: Collection[str]) -> bool:
        """Return whether any last good entry of a source could be added to the others."""
        stored = self._stored
        scratch = self._pass({*bad, source}).watchlist
        listed, _ = stand_in(stored, source, self._accounts, self._inputs.patterns, scratch) if stored else ([], 0)
        return any(file.lists for file in listed)

    @functools.cached_property
    def _stored(self) -> LastGood | None:
        """The last good watchlist; it's read only where it is needed, as it may have 100,000 entries."""
        if self._inputs.last_good is None:
            return None
        try:
            return self._inputs.last_good()
        except ConfigError as error:
            self._trouble.extend(error.errors)
            return None

    # Results

    def _unusable(self, found: _Pass) -> Assembled:
        """Return a watchlist with errors, among them what is wrong with the last good one if it was needed."""
        found.watchlist.errors.extend(self._trouble)
        return Assembled(found.watchlist, found.digest)

    def _completed(self, found: _Pass, bad: Mapping[str, list[ErrorDetail]]) -> Assembled:
        """Return the watchlist of the usable sources, with the last good entries of the others."""
        watchlist, digest = found.watchlist, found.digest
        result = Assembled(watchlist, digest)
        good = [file for of in found.listed.values() for file in of]
        replaced: dict[str, list[ListedFile]] = {}
        superseded = 0
        if FILES in bad:
            replaced[FILES], superseded = self._stand_in(FILES, watchlist)
            if not _lists(replaced[FILES]):
                watchlist.errors.extend([*bad[FILES], *self._why_unused(), *self._trouble])
                return result
            digest.update(b"last good %s\n" % (self._stored.digest if self._stored else "").encode())
        saved: Saved | None = None
        for source in self._inputs.http:
            answer = self._answers.get(source.name)
            if source.name in bad:
                result.refused[source.name] = tuple(bad[source.name])
                files, over = self._stand_in(source.name, watchlist)
                saved = self._saved()
                if saved is None or not _lists(files):
                    continue
                answer = SourceAnswer.of(source.url, self._last_good_document(source.name), saved)
            elif isinstance(answer, SourceAnswer) and answer.saved is not None:
                saved = answer.saved
                files, over = _offered(source.name, answer, watchlist)
            elif isinstance(answer, SourceAnswer):
                files, over = found.listed[source.name], 0
            else:
                continue
            if answer.saved is not None:
                replaced[source.name] = files
                superseded += over
            result.answers[source.name] = answer
            result.entries[source.name] = sum(len(file.factors) + len(file.entities) for file in files)
            digest.update(b"source %s %s\n" % (source.name.encode(), answer.sha256.encode()))
        result.warnings.extend(ConfigWarning(of.place, of.problem) for of in self._trouble)
        if replaced and (saved := saved or self._saved()) is not None:
            result.fallback = self._fallback(replaced, bad, superseded, saved)
        if result.fallback is None or _lists(good):
            result.files = [*good, *(file for files in replaced.values() for file in files)]
        else:
            result.files = None
        return result

    def _stand_in(self, source: str, watchlist: Watchlist) -> tuple[list[ListedFile], int]:
        if (stored := self._stored) is None:
            return [], 0
        return stand_in(stored, source, self._accounts, self._inputs.patterns, watchlist)

    def _why_unused(self) -> Iterator[ErrorDetail]:
        if (stored := self._stored) is not None:
            problem = "lists nothing for the configured accounts and watchlist files, so it isn't used"
            yield ErrorDetail(shown_path(stored.path), problem)

    def _saved(self) -> Saved | None:
        """Return where the last good watchlist is, if it is usable."""
        stored = self._stored
        return None if stored is None else Saved(stored.path, stored.saved_seconds)

    def _last_good_document(self, source: str) -> bytes:
        """Return the last good entries of a source as an answer."""
        stored = self._stored
        usable = () if stored is None else stored.usable(source, self._accounts, ())
        return document_of([file.entries[number] for file, number in usable])

    def _fallback(
        self,
        replaced: Mapping[str, list[ListedFile]],
        bad: Mapping[str, list[ErrorDetail]],
        superseded: int,
        saved: Saved,
    ) -> Fallback:
        stored: LastGood | None = self.__dict__.get("_stored")
        restored = sum(len(file.factors) + len(file.entities) for files in replaced.values() for file in files)
        good = {FILES, *(source.name for source in self._inputs.http)} - bad.keys()
        files = () if stored is None else (file for file in stored.files if file.source not in good)
        total = sum(len(file.entries) for file in files)
        return Fallback(
            sources=tuple(replaced),
            path=saved.path,
            saved_seconds=saved.seconds,
            errors=tuple(error for source in replaced for error in bad.get(source, ())),
            restored=restored,
            dropped=max(0, total - restored - superseded),
            superseded=superseded,
        )


def _lists(files: Iterable[ListedFile]) -> bool:
    return any(file.lists for file in files)


def _offered(name: str, answer: SourceAnswer, watchlist: Watchlist) -> tuple[list[ListedFile], int]:
    """Add the last good entries of a URL that an earlier configuration used; return them, and how many conflict."""
    factors, entities, superseded = len(watchlist.factors), len(watchlist.entities), 0
    for array, number, table in tables_of(answer):
        superseded += not watchlist.offer(TablePlace(source_place(name), array, number), table)
    return [ListedFile("", "", watchlist.factors[factors:], watchlist.entities[entities:], name)], superseded
