"""URL sources: what the configuration may say of them, and which answers become part of the watchlist."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Config, ConfigError, SourceAnswer, SourceFailure, load, reload_errors, with_answers
from exporter.config.last_good import LastGood, StoredFile
from exporter.config.lines import locate
from exporter.config.sharding import Shard
from tests.support.config_texts import ACCOUNT_SID, HEADER, SERVICE, account, factor, factor_sid, row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

URL = "https://identity.example.com/factors"
NAME = "identity-service"
STATE = '[state]\nfile = "state.jsonl"\n\n'
IDENTITY = "made-up-identity"


def http(name: str = NAME, url: str = URL, **keys: object) -> str:
    values = {"name": name, "url": url, **keys}
    return "[[watchlist.http]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def table(number: int, **keys: object) -> dict[str, object]:
    """Return an entry of an answer."""
    return {"service_sid": SERVICE, "identity": IDENTITY, "factor_sid": factor_sid(number)} | keys


def listing(*numbers: int, url: str = URL, **keys: object) -> SourceAnswer:
    """Return an answer with these factors."""
    return answer({"factors": [table(number) for number in numbers], **keys}, url=url)


def answer(document: object, url: str = URL) -> SourceAnswer:
    return SourceAnswer.of(url, document if isinstance(document, bytes) else json.dumps(document).encode())


class Site:
    """A configuration in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.last_good: LastGood | None = None

    def write(self, text: str, **files: str) -> None:
        (self.directory / "config.toml").write_text(text)
        for name, content in files.items():
            (self.directory / name.replace("_dot_", ".")).write_text(content)

    def load(self, **options: Any) -> Config:
        return load(self.directory / "config.toml", environ={}, flags={}, **options)

    def start(self, answers: Mapping[str, SourceAnswer | SourceFailure]) -> Config:
        """Load the configuration as a start does."""

        def read(_path: Path) -> LastGood | None:
            return self.last_good

        return with_answers(self.load(last_good=read, fall_back=True), answers, last_good=read, start=True)

    def errors(self, do: Callable[[], object] | None = None) -> list[str]:
        """Return the errors of a load."""
        with pytest.raises(ConfigError) as refused:
            (do or self.load)()
        return [str(error).replace(f"{self.directory}/", "") for error in refused.value.errors]

    def refusal(self, document: object) -> list[str]:
        """Return the errors for which an answer is refused."""
        config = self.load()
        return self.errors(lambda: with_answers(config, {NAME: answer(document)}))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.write(account() + factor(1) + http())
    return site


def numbers(config: Config) -> list[int]:
    return sorted(int(of.key.factor_sid.removeprefix("YF"), 16) for of in config.factors)


# The configuration of a source


def test_a_source_with_its_defaults_and_with_everything(site: Site) -> None:
    (source,) = site.load().http
    assert (source.name, source.url, source.refresh_interval_seconds, source.timeout_seconds) == (NAME, URL, 60, 10)
    assert (source.username, source.secret, source.authorities) == ("", None, "")
    keys = {"refresh_interval": "30s", "timeout": "5s", "username": "reader", "password_file": "secret"}
    site.write(account() + http(**keys) + http("second", "http://127.0.0.1:80/x?y=1"), secret="of the file\n")
    first, second = site.load().http
    assert (first.refresh_interval_seconds, first.timeout_seconds, first.username) == (30, 5, "reader")
    assert first.secret is not None
    assert first.secret.current == "of the file"
    assert second.url == "http://127.0.0.1:80/x?y=1"
    assert "of the file" not in repr(first)


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"url": "http://identity.example.com/x"}, "url: would send identities unencrypted; use https (http is"),
        (
            {"url": "https://me:secret@identity.example.com/"},
            "url: contains credentials; use bearer_token_file, or",
        ),
        ({"url": "https://identity.example.com/#top"}, "url: has a fragment, which is never sent; remove it"),
        ({"url": "ftp://secret/"}, 'url: does not start with "https://"'),
        ({"url": 1}, "url: is a whole number, not a URL"),
        ({"refresh_interval": "500ms"}, 'refresh_interval: "500ms" is shorter than the minimum, "1s"'),
        ({"timeout": "0s"}, 'timeout: "0s" is not longer than zero'),
        ({"interval": "1m"}, 'interval: unknown key; did you mean "refresh_interval"?'),
        ({"name": "files"}, 'name: "files" stands for watchlist.files; rename it'),
        ({"name": ""}, "name: is empty; a name has 1 to 128 characters"),
        ({"username": " x"}, "username: has white space around it, or a control character in it; remove it"),
        ({"username": 1}, "username: is a whole number, not a string"),
        (
            {"username": "a:b", "password_file": "token"},
            " has a colon in its username; basic authentication allows",
        ),
        ({"username": "x"}, " has no password_file; set both username and password_file, or neither"),
        ({"password_file": "token"}, " has no username; set both username and password_file, or neither"),
        (
            {"bearer_token_file": "token", "username": "x"},
            " has both bearer_token_file and username or password_file; set only one kind of credentials",
        ),
        (
            {"bearer_token_file": "missing"},
            "bearer_token_file: missing does not exist; create it or correct the path",
        ),
        ({"username": "x", "password_file": "missing"}, "password_file: missing does not exist; create it"),
        ({"ca_file": "token"}, "ca_file: token contains no certificate in PEM format"),
    ],
)
def test_a_source_with_an_error(site: Site, keys: dict[str, object], error: str) -> None:
    values: dict[str, Any] = {"name": NAME, "url": URL} | keys
    site.write(account() + factor(1) + http(**values), token="x")
    (found,) = site.errors()
    separator = ":" if error.startswith(" ") else "."
    assert found.startswith(f"config.toml: watchlist.http[0]{separator}{error}")
    assert "secret" not in found


def test_sources_with_the_same_name_and_what_is_no_source(site: Site) -> None:
    site.write(account() + http() + http())
    same = "is also the name of config.toml: watchlist.http[0]; rename one of the two"
    assert site.errors() == [f"config.toml: watchlist.http[1].name: {same}"]
    site.write(account() + "[watchlist]\nhttp = [1]\n")
    assert site.errors() == ["config.toml: watchlist.http[0]: is a whole number, not a table"]
    site.write(account() + f'[watchlist.http]\nname = "{NAME}"\n')
    single = "is a table, not an array of tables; write [[watchlist.http]] with two brackets"
    assert site.errors() == [f"config.toml: watchlist.http: {single}"]
    site.write(account() + "watchlist = 1\n")
    assert len(site.errors()) == 1


def test_the_state_file_is_not_a_secret(site: Site) -> None:
    site.write('[state]\nfile = "token"\n' + account() + http(bearer_token_file="token"), token="x")
    (error,) = site.errors()
    assert error.startswith("config.toml: state.file: token is also read as configuration")


def test_a_source_needs_an_account(site: Site) -> None:
    site.write(http())
    assert site.errors() == [
        "config.toml: no account is configured, and watchlist.http needs one; add a table [accounts.main]"
    ]


def test_the_line_of_an_error(site: Site) -> None:
    site.write(account() + http(timeout="0s"))
    with pytest.raises(ConfigError) as refused:
        site.load()
    (error,) = refused.value.errors
    (location,) = locate([error]).values()
    assert (location.line, location.table, location.key) == (7, "watchlist.http[0]", "timeout")


def test_a_variable_can_not_set_it(site: Site) -> None:
    with pytest.raises(
        ConfigError, match=r"lists can be set in files only; write \[\[watchlist.http\]\] in a file"
    ):
        load(site.directory / "config.toml", environ={"VERIFY_EXPORTER_WATCHLIST__HTTP__URL": URL}, flags={})


# Answers


def test_an_answer_adds_entries_like_a_file(site: Site) -> None:
    entity = {"name": "e", "service_sid": SERVICE, "identity": IDENTITY, "labels": {"team": "x"}}
    given = table(2, name="two", interval="2m", paused=True, labels={"team": "y"})
    config = with_answers(site.load(), {NAME: answer({"factors": [given], "entities": [entity]})})
    assert numbers(config) == [1, 2]
    added = config.factors[1]
    assert (added.name, added.interval_seconds, added.paused, added.labels) == ("two", 120, True, (("team", "y"),))
    assert [of.name for of in config.entities] == ["e"]
    assert (config.source_entries, config.unloaded, config.fallback) == ({NAME: 2}, (), None)
    assert (config.total_factors, config.listed) == (2, {"main": 3})
    assert IDENTITY not in repr(config)


def test_null_counts_as_not_given(site: Site) -> None:
    """As a query of a database writes an empty column."""
    given = table(2, name=None, interval=None, paused=None, labels=None, account=None)
    assert numbers(with_answers(site.load(), {NAME: answer({"factors": [given], "entities": None})})) == [1, 2]
    (missing,) = site.refusal({"factors": [table(2, identity=None)]})
    assert missing.startswith('watchlist.http "identity-service": factors[0].identity: is missing; add it (')


def test_the_digest_covers_the_answer(site: Site) -> None:
    config = site.load()
    digests = {
        config.sha256,
        with_answers(config, {NAME: listing(2)}).sha256,
        with_answers(config, {NAME: listing(3)}).sha256,
    }
    assert len(digests) == 3
    assert with_answers(config, {NAME: listing(2)}).fingerprint == config.fingerprint


def test_each_shard_has_its_part(site: Site) -> None:
    entries = [table(number, identity=f"identity-{number:04}") for number in range(2, 40)]
    parts = [
        with_answers(site.load(shard=Shard(ordinal, 2)), {NAME: answer({"factors": entries})})
        for ordinal in range(2)
    ]
    assert sorted(number for part in parts for number in numbers(part)) == list(range(1, 40))
    assert all(part.factors and part.total_factors == 39 for part in parts)


PLACE = 'watchlist.http "identity-service"'


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xef\xbb\xbf{}", ": begins with a byte-order mark; JSON has none (RFC 8259 §8.1)"),
        (b'{"factors": ["\xff"]}', ": is not UTF-8: byte 15; encode it in UTF-8"),
        (b" \n", ': is empty; answer with {"factors": [], "entities": []} if nothing is to be watched'),
        (
            b"<!doctype html>",
            ": is HTML or XML, not JSON; check the URL: a login page or a proxy may",
        ),
        (b'{"factors": [', ": line 1, column 14: is not JSON: Expecting value"),
        (b'{"factors": [NaN]}', ": contains a number that is not usable"),
        (b'{"factors": [' + b"1" * 5000 + b"]}", ": contains a number that is not usable"),
        (b"[" * 100_000, ": is nested too deeply"),
        (b"[]", ': is a list, not an object; answer with {"factors": [...]}'),
        (b"null", ': is null, not an object; answer with {"factors": [...]}'),
        (
            b"{}",
            ': has neither "factors" nor "entities"; answer with {"factors": [], "entities": []}',
        ),
        (b'{"factors": {}}', ": factors: is a table, not a list of objects"),
        (b'{"factors": [1]}', ": factors[0]: is a whole number, not a table"),
        (b'{"services": []}', ': "services": is not allowed here; an answer contains only factors and entities'),
        (b'{"factors": [], "factors": []}', ': gives "factors" twice; give each key once'),
        (b'{"factors": [{"labels": {"a": {"b": 1, "b": 2}}}]}', ": gives a key twice; give each key once"),
        (b'{"factors": [3, {"name": "n", "name": "n"}]}', ": factors[1].name: is given twice; give each key once"),
        (
            b'{"factors": [{"secret-key": 1, "secret-key": 2}]}',
            ": factors[0]: gives a key twice; give each key",
        ),
        (b'{"entities": [{"labels": {"a": "", "a": ""}}]}', ": entities[0].labels: gives a label twice; give each"),
    ],
)
def test_what_is_no_answer(site: Site, content: bytes, problem: str) -> None:
    (error,) = site.refusal(content)
    assert error.startswith(f"{PLACE}{problem}")
    assert "secret" not in error


def test_an_error_has_the_name_of_its_entry_and_never_an_identity(site: Site) -> None:
    config = site.load()
    bad = [
        table(2, name="two", identity="secret identity"),
        table(3, name="three", factor_sid="secret-identity"),
        table(4, name="four", account="secret-identity"),
        table(1, name="five"),
        table(6, name="six", sercet="secret-identity"),
        table(7, name="secret-identity", identity="secret-identity", interval="x"),
        table(8, name="lone \ud800 surrogate"),
    ]
    with pytest.raises(ConfigError) as refused:
        with_answers(config, {NAME: answer({"factors": bad})})
    places = [(error.place.removeprefix(PLACE), error.name) for error in refused.value.errors]
    assert places == [
        (": factors[0].identity", "two"),
        (": factors[1].factor_sid", "three"),
        (": factors[2].account", "four"),
        (": factors[3]", "five"),
        (": factors[4].sercet", "six"),
        (": factors[5].interval", ""),
        (": factors[6].name", ""),
    ]
    assert "secret" not in str(refused.value)


def test_a_refused_answer_changes_nothing(site: Site) -> None:
    config = with_answers(site.load(), {NAME: listing(2)})
    with pytest.raises(ConfigError):
        with_answers(config, {NAME: listing(1)})
    assert numbers(config) == [1, 2]
    assert with_answers(config, {}) == config


def test_a_name_that_two_sources_give_is_an_error_of_the_later_one(site: Site) -> None:
    site.write(account() + factor(1) + http() + http("second", URL + "2"))
    config = with_answers(site.load(), {NAME: listing(2)})
    second = answer({"factors": [table(3, name=factor_sid(2))]}, URL + "2")
    with pytest.raises(ConfigError, match=f'second": factors.0..name: is also the name of {PLACE}: factors.0.'):
        with_answers(config, {"second": second})


def test_a_configuration_without_sources_stays_as_it_is(site: Site) -> None:
    site.write(account() + factor(1))
    config = site.load()
    assert config.kept is None
    assert with_answers(config, {NAME: listing(2)}) is config


# Reloads


def test_a_load_keeps_the_answers(site: Site) -> None:
    config = with_answers(site.load(), {NAME: listing(2)})
    site.write(account() + factor(3) + http())
    again = site.load(answers=config.answers)
    assert numbers(again) == [2, 3]
    site.write(account() + factor(3) + http("renamed"))
    assert numbers(site.load(answers=config.answers)) == [2, 3], "a new name for the same URL"
    site.write(account() + factor(3) + http(url=URL + "/moved"))
    assert numbers(site.load(answers=config.answers)) == [2, 3], "a new URL, until it has answered"
    site.write(account() + factor(3) + http("other", URL + "/other"))
    other = site.load(answers=config.answers)
    assert (numbers(other), other.unloaded) == ([3], ("other",))
    site.write(account() + factor(2) + http())
    assert site.errors(lambda: site.load(answers=config.answers)) == [
        f"{PLACE}: factors[0]: lists the same factor as config.toml: factors[0]; remove one of the two"
    ]


def test_files_are_not_read_again_for_an_answer(site: Site) -> None:
    """Neither one that is bad by now, nor one that is gone, nor the configuration file."""
    site.write('[watchlist]\nfiles = ["*.csv"]\n' + account() + http(), a_dot_csv=f"{HEADER}\n{row(1)}")
    config = with_answers(site.load(), {NAME: listing(2)})
    site.write("x", a_dot_csv="x", b_dot_csv="x")
    assert numbers(with_answers(config, {NAME: listing(3)})) == [1, 3]
    os.unlink(site.directory / "a.csv")  # noqa: PTH108 - a short form
    assert numbers(with_answers(config, {NAME: listing(3)})) == [1, 3]


@pytest.mark.parametrize("allow_empty", [False, True])
def test_an_empty_answer_after_another_one(site: Site, *, allow_empty: bool) -> None:
    site.write(f"[watchlist]\nallow_empty = {str(allow_empty).lower()}\n" + account() + factor(1) + http())
    empty = with_answers(site.load(), {NAME: listing()})
    config = with_answers(empty, {NAME: listing(2)})
    assert reload_errors(site.load(), empty) == [], "an empty answer may be the first one"
    found = [str(error) for error in reload_errors(config, with_answers(config, {NAME: listing()}))]
    expected = (
        f"{PLACE}: no longer lists anything; it has 1 entry; restore the entries, or set watchlist.allow_empty = "
        "true if this is intended"
    )
    assert found == ([] if allow_empty else [expected])


def test_the_empty_watchlist_of_a_source_that_has_not_answered_is_no_warning(site: Site) -> None:
    site.write(account() + http())
    config = site.load()
    assert config.warnings == ()
    assert ["is empty" in str(warning) for warning in with_answers(config, {NAME: listing()}).warnings] == [True]


# Starts


DOWN = SourceFailure("can't be loaded: no complete answer in time", "hint")


def stored(source: str, *entries: int, accounts: str = ACCOUNT_SID, name: str = "") -> LastGood:
    tables = [("factors", table(number, account="main")) for number in entries]
    files = [StoredFile(source, name, name, tables)]
    return LastGood(Path("/var/lib/watchlist.last-good"), 1_800_000_000.0, "d1", {"main": accounts}, files)


def test_a_source_that_is_down_is_replaced_by_its_last_good_entries(site: Site) -> None:
    site.write(STATE + account() + factor(1) + http())
    site.last_good = stored(NAME, 2, 3)
    config = site.start({NAME: DOWN})
    assert numbers(config) == [1, 2, 3]
    assert config.fallback is not None
    assert config.fallback.sources == (NAME,)
    assert (config.fallback.restored, config.fallback.dropped, config.fallback.superseded) == (2, 0, 0)
    assert [str(error) for error in config.fallback.errors] == [f"{PLACE}: {DOWN.problem}; hint"]
    assert (config.unloaded, config.source_entries) == ((), {NAME: 2})
    assert config.whole.take() is None, "nothing that isn't saved already"
    better = with_answers(config, {NAME: listing(4)})
    assert (numbers(better), better.fallback) == ([1, 4], None)


def test_what_stands_in_stays_over_reloads(site: Site) -> None:
    """Without the file: it may be gone by then."""
    site.write(STATE + account() + factor(1) + http())
    site.last_good = stored(NAME, 2, 3)
    config = site.start({NAME: DOWN})
    site.last_good = None
    site.write(STATE + account() + factor(3) + http())
    again = site.load(answers=config.answers)
    assert numbers(again) == [2, 3]
    assert again.fallback is not None
    assert (again.fallback.sources, again.fallback.restored, again.fallback.superseded) == ((NAME,), 1, 1)
    site.write(STATE + account() + factor(1) + http())
    assert numbers(site.load(answers=again.answers)) == [1, 2, 3], "also what another source listed meanwhile"


@pytest.mark.parametrize("how", ["bad", "empty", "with an entry of the file"])
def test_an_answer_that_can_not_be_used_at_a_start(site: Site, how: str) -> None:
    site.write(STATE + account() + factor(1) + http())
    site.last_good = stored(NAME, 2, 3)
    given = {"bad": answer(b"<html>"), "empty": listing(), "with an entry of the file": listing(1, 2)}[how]
    config = site.start({NAME: given})
    assert numbers(config) == [1, 2, 3]
    assert [error.place.partition(": ")[0] for error in config.refused[NAME]] == [PLACE]


def test_without_last_good_entries_a_source_adds_nothing(site: Site) -> None:
    for text, last_good in (
        (account() + factor(1) + http(), stored(NAME, 2)),
        (STATE + account() + factor(1) + http(), None),
        (STATE + account() + factor(1) + http(), stored("another", 2)),
        (STATE + account() + factor(1) + http(), stored(NAME, 2, accounts="AC" + "9" * 32)),
    ):
        site.write(text)
        site.last_good = last_good
        config = site.start({NAME: DOWN})
        assert numbers(config) == [1]
        assert (config.fallback, config.unloaded) == (None, (NAME,))
        assert [error.problem for error in config.refused[NAME]] == [DOWN.problem]


def test_an_empty_answer_is_used_where_nothing_is_missing(site: Site) -> None:
    site.write(STATE + account() + factor(2) + http())
    site.last_good = stored(NAME, 2)
    config = site.start({NAME: listing()})
    assert (config.fallback, config.source_entries) == (None, {NAME: 0})


def test_every_source_is_judged_on_its_own(site: Site) -> None:
    """Bad files, a URL that is down, and one that lists what the files listed last."""
    files = '[watchlist]\nfiles = ["a.csv"]\n'
    site.write(STATE + files + account() + http() + http("second", URL + "2"), a_dot_csv="x")
    whole = stored("files", 1, 2, name="a.csv")
    site.last_good = LastGood(
        whole.path, whole.saved_seconds, "d", whole.accounts, [*whole.files, *stored(NAME, 3).files]
    )
    config = site.start({NAME: DOWN, "second": listing(2, 4, url=URL + "2")})
    assert numbers(config) == [1, 2, 3, 4]
    assert config.fallback is not None
    assert config.fallback.sources == ("files", NAME)
    assert (config.fallback.restored, config.fallback.superseded, config.fallback.dropped) == (2, 1, 0)
    saved = config.whole.take()
    assert saved is not None
    assert {of.source: len(of.factors) for of in saved} == {"files": 1, NAME: 1, "second": 2}


# Whatever sources answer


_ENTRIES = st.lists(st.integers(2, 6), max_size=4)
_ANSWERS = st.one_of(
    st.just(DOWN),
    st.sampled_from([b"", b"<html>", b"[]", b"{}", b'{"factors": [1]}', b'{"factors": [{}]}']).map(answer),
    st.binary(max_size=20).map(answer),
    _ENTRIES.map(lambda numbers: listing(*numbers)),
)


@pytest.mark.slow
@given(start=_ANSWERS, then=st.lists(_ANSWERS, max_size=6), has_last_good=st.booleans())
def test_no_sequence_of_answers_empties_the_watchlist(
    tmp_path_factory: pytest.TempPathFactory,
    start: SourceAnswer | SourceFailure,
    then: Sequence[SourceAnswer | SourceFailure],
    has_last_good: bool,
) -> None:
    """Once a URL listed something, something that it listed is watched: what is good is taken, the rest refused."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.write(STATE + account() + http())
    site.last_good = stored(NAME, 9) if has_last_good else None
    config = site.start({NAME: start})
    if has_last_good:
        assert config.factors
    for result in then:
        before = config
        with contextlib.suppress(ConfigError):
            changed = with_answers(config, {NAME: result})
            config = config if reload_errors(config, changed) else changed
        assert config.factors or not before.factors
        if config is not before:
            assert isinstance(result, SourceAnswer)
            listed = json.loads(result.content)["factors"]
            assert {of.key.factor_sid for of in config.factors} == {entry["factor_sid"] for entry in listed}
