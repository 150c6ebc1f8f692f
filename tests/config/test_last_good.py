"""What stands in for watchlist files that can't be used at a start, and what never does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.config import Config, ConfigError, ErrorDetail, load
from exporter.config.last_good import LastGood, StoredFile
from exporter.config.sharding import Shard
from tests.support.config_texts import ACCOUNT_SID, HEADER, SERVICE, account, factor, factor_sid, row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATE = '[state]\nfile = "state.jsonl"\n\n'
FILES = '[watchlist]\nfiles = ["a.csv", "more/*.toml"]\n\n'
PATH = Path("/var/lib/exporter/watchlist.last-good")
HINT = "restore the entries, or set watchlist.allow_empty = true if this is intended"
OTHER_SERVICE = "VA" + "1" * 32


def table(number: int, **keys: object) -> tuple[str, dict[str, object]]:
    """Return a saved factor."""
    of = {
        "account": "main",
        "service_sid": SERVICE,
        "factor_sid": factor_sid(number),
        "identity": "made-up-identity",
    }
    return "factors", {**of, **keys}


def stored(
    *entries: tuple[str, Mapping[str, object]],
    pattern: str = "a.csv",
    name: str = "a.csv",
    source: str = "files",
    accounts: Mapping[str, str] | None = None,
    more: Sequence[StoredFile] = (),
) -> LastGood:
    files = (StoredFile(source, pattern, name, entries), *more)
    return LastGood(PATH, 1_800_000_000.0, "d1", accounts or {"main": ACCOUNT_SID}, files)


class Starts:
    """Starts with a configuration and a last good watchlist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reads: list[Path] = []
        (directory / "more").mkdir()

    def write(self, **files: str | None) -> None:
        """Write files, ``_dot_`` stands for a dot; None removes one."""
        for name, text in files.items():
            path = self.directory / name.replace("_dot_", ".").replace("more_", "more/")
            if text is None:
                path.unlink()
            else:
                path.write_text(text)

    def start(self, last_good: LastGood | ConfigError | None, **options: Any) -> Config:
        """Load the configuration as a start does."""

        def read(state_file: Path) -> LastGood | None:
            self.reads.append(state_file)
            if isinstance(last_good, ConfigError):
                raise last_good
            return last_good

        arguments: dict[str, Any] = {"environ": {}, "flags": {}, "last_good": read, "fall_back": True}
        return load(self.directory / "config.toml", **(arguments | options))

    def errors(self, last_good: LastGood | ConfigError | None, **options: Any) -> list[str]:
        """Return the errors of a start that fails."""
        with pytest.raises(ConfigError) as failed:
            self.start(last_good, **options)
        return [str(detail).replace(f"{self.directory}/", "") for detail in failed.value.errors]


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    starts = Starts(tmp_path)
    starts.write(
        config_dot_toml=STATE + FILES + account(),
        a_dot_csv=f"{HEADER}\n{row(1)}{row(2)}",
        more_b_dot_toml=factor(3),
    )
    return starts


BOTH = stored(table(1), table(2), more=[StoredFile("files", "more/*.toml", "more/b.toml", [table(3)])])


def numbers(config: Config) -> list[int]:
    """Return the numbers of the factors."""
    return sorted(int(of.key.factor_sid.removeprefix("YF"), 16) for of in config.factors)


def reasons(config: Config) -> list[str]:
    """Return why the last good watchlist stands in."""
    assert config.fallback is not None
    return [str(error).replace(f"{config.path.parent}/", "") for error in config.fallback.errors]


def test_good_files_are_used_without_reading_the_last_good_watchlist(starts: Starts) -> None:
    config = starts.start(stored(table(9)))
    assert numbers(config) == [1, 2, 3]
    assert config.fallback is None
    assert starts.reads == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"{HEADER}\n{row(1)}{row(2)[:40]}",
            "a.csv: line 3, column 3: is missing; the row has 2 columns, the header 3",
        ),
        (
            f"{HEADER}\n{row(1)}{row(1)}",
            "a.csv: line 3: lists the same factor as a.csv: line 2; remove one of the two",
        ),
        ("", "a.csv: is empty; "),
        (None, "config.toml: watchlist.files[0]: a.csv does not exist; create it or correct the path"),
    ],
)
def test_a_bad_file_is_replaced_by_the_last_good_entries_of_all_files(
    starts: Starts, text: str | None, reason: str
) -> None:
    starts.write(a_dot_csv=text, more_b_dot_toml=factor(3) + factor(4))
    config = starts.start(BOTH)
    assert numbers(config) == [1, 2, 3]
    assert reasons(config)[0].startswith(reason)
    assert config.fallback is not None
    assert (config.fallback.restored, config.fallback.dropped, config.fallback.superseded) == (3, 0, 0)
    assert (config.fallback.path, config.fallback.saved_seconds) == (PATH, 1_800_000_000.0)
    assert starts.reads == [starts.directory / "state.jsonl"]


def test_a_directory_in_place_of_a_file_is_bad(starts: Starts) -> None:
    starts.write(a_dot_csv=None)
    (starts.directory / "a.csv").mkdir()
    assert numbers(starts.start(BOTH)) == [1, 2, 3]


def test_without_a_last_good_watchlist_a_bad_file_fails_as_ever(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    with pytest.raises(ConfigError) as failed:
        load(starts.directory / "config.toml", environ={}, flags={})
    assert len(failed.value.errors) == 1
    assert starts.errors(None) == [str(of).replace(f"{starts.directory}/", "") for of in failed.value.errors]


def test_without_a_state_file_there_is_none(starts: Starts) -> None:
    starts.write(config_dot_toml=FILES + account(), a_dot_csv="")
    assert len(starts.errors(BOTH)) == 1
    assert starts.reads == []


def test_a_last_good_watchlist_that_is_unusable_is_one_more_error(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    bad = ConfigError([ErrorDetail("watchlist.last-good", "is truncated or modified", "hint")])
    assert starts.errors(bad)[1:] == ["watchlist.last-good: is truncated or modified; hint"]


def test_errors_of_the_configuration_file_always_fail(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    for text in ("[polling]\ninterval = 5\n", factor(7, factor_sid='"x"'), factor(7) + factor(7), "[accounts"):
        starts.write(config_dot_toml=STATE + FILES + account() + text)
        assert starts.errors(BOTH)
    starts.write(config_dot_toml=STATE + FILES)
    assert any("no account is configured" in error for error in starts.errors(BOTH))
    assert starts.reads == []


def test_entries_of_the_configuration_file_stay_and_win(starts: Starts) -> None:
    starts.write(
        config_dot_toml=STATE + FILES + account() + factor(1, name='"mine"') + factor(8, name='"taken"'),
        a_dot_csv="",
    )
    config = starts.start(stored(table(1, name="old"), table(2), table(5, name="taken")))
    assert numbers(config) == [1, 2, 8]
    assert {of.name for of in config.factors} == {"mine", "taken", factor_sid(2)}
    assert config.fallback is not None
    assert (config.fallback.restored, config.fallback.superseded) == (1, 2)


def test_entries_of_accounts_and_files_that_are_gone_are_dropped(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    last_good = stored(
        table(1),
        table(2, account="gone"),
        table(3, account=["main"]),
        table(4, account="moved"),
        accounts={"main": ACCOUNT_SID, "gone": ACCOUNT_SID, "moved": "AC" + "9" * 32},
        more=[
            StoredFile("files", "dropped.csv", "dropped.csv", [table(6)]),
            StoredFile("another source", "a.csv", "a.csv", [table(7)]),
        ],
    )
    starts.write(config_dot_toml=STATE + FILES + account() + account("moved"))
    config = starts.start(last_good)
    assert numbers(config) == [1]
    assert config.fallback is not None
    assert (config.fallback.restored, config.fallback.dropped, config.fallback.superseded) == (1, 5, 0)


def test_an_entry_that_is_no_longer_valid_is_left_out(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    config = starts.start(
        stored(table(1), table(2, interval="x"), table(3, unknown=1), ("factors", {"account": "main"}))
    )
    assert numbers(config) == [1]
    assert config.fallback is not None
    assert config.fallback.superseded == 3


def test_with_nothing_left_the_start_fails_and_says_so(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    why = f"{PATH}: lists nothing for the configured accounts and watchlist files, so it isn't used"
    assert starts.errors(stored(table(1, account="gone")))[1:] == [why]
    assert starts.errors(stored())[1:] == [why]


def test_a_pattern_and_a_file_that_no_longer_list_anything_are_bad(starts: Starts) -> None:
    starts.write(more_b_dot_toml=None)
    config = starts.start(BOTH)
    assert numbers(config) == [1, 2, 3]
    assert reasons(config) == [
        f"config.toml: watchlist.files[1]: more/*.toml no longer lists anything: 1 entry is missing; {HINT}"
    ]
    starts.write(more_b_dot_toml=factor(3), a_dot_csv=HEADER)
    assert reasons(starts.start(BOTH)) == [
        f"watchlist: a.csv no longer lists anything: 2 entries are missing; {HINT}"
    ]
    starts.write(more_b_dot_toml="# nothing")
    assert len(reasons(starts.start(BOTH))) == 2


def test_an_empty_file_that_replaced_another_one_is_bad(starts: Starts) -> None:
    (starts.directory / "more" / "b.toml").rename(starts.directory / "more" / "c.toml")
    assert starts.start(BOTH).fallback is None
    starts.write(more_c_dot_toml="")
    assert reasons(starts.start(BOTH)) == [
        f"config.toml: watchlist.files[1]: more/*.toml no longer lists anything: 1 entry is missing; {HINT}"
    ]


def test_what_is_listed_elsewhere_is_not_missing(starts: Starts) -> None:
    starts.write(more_b_dot_toml=None, a_dot_csv=f"{HEADER}\n{row(3)}")
    assert numbers(starts.start(BOTH)) == [3]
    entity = {"account": "main", "service_sid": SERVICE, "identity": "made-up-identity", "name": "e"}
    listed = f'[[entities]]\nname = "e"\nservice_sid = "{SERVICE}"\nidentity = "made-up-identity"\n'
    last_good = stored(more=[StoredFile("files", "more/*.toml", "more/b.toml", [("entities", entity)])])
    assert len(starts.start(last_good).entities) == 1
    starts.write(config_dot_toml=STATE + FILES + account() + listed)
    assert starts.start(last_good).fallback is None


def test_the_order_of_the_patterns_does_not_matter(starts: Starts) -> None:
    files = '[watchlist]\nfiles = ["*.csv", "a.csv", "more/*.toml"]\n\n'
    starts.write(config_dot_toml=STATE + files + account(), a_dot_csv=f"{HEADER}\n{row(1)}")
    assert numbers(starts.start(BOTH)) == [1, 3]


def test_a_single_factor_and_a_file_of_several_may_go(starts: Starts) -> None:
    starts.write(a_dot_csv=f"{HEADER}\n{row(1)}", more_c_dot_toml=factor(4))
    starts.write(more_b_dot_toml=None)
    config = starts.start(BOTH)
    assert numbers(config) == [1, 4]
    assert config.fallback is None


def test_what_could_not_be_restored_is_not_missing(starts: Starts) -> None:
    """A factor that was enrolled again under its name, and moved to the configuration file."""
    starts.write(
        config_dot_toml=STATE + FILES + account() + factor(9, name='"a"'), a_dot_csv=HEADER, more_b_dot_toml=None
    )
    config = starts.start(stored(table(1, name="a")))
    assert numbers(config) == [9]
    assert config.fallback is None


def test_an_empty_watchlist_may_be_intended(starts: Starts) -> None:
    allowed = FILES.replace("\n\n", "\nallow_empty = true\n\n")
    starts.write(config_dot_toml=STATE + allowed + account(), a_dot_csv=HEADER, more_b_dot_toml="factors = []")
    config = starts.start(BOTH)
    assert (config.factors, config.fallback, starts.reads) == ((), None, [])
    starts.write(a_dot_csv="")
    assert numbers(starts.start(BOTH)) == [1, 2, 3]


def test_an_empty_file_is_used_with_a_warning_where_it_can_not_be_compared(starts: Starts) -> None:
    starts.write(more_b_dot_toml="")
    bad = ConfigError([ErrorDetail("watchlist.last-good", "is truncated or modified", "hint")])
    config = starts.start(bad)
    assert numbers(config) == [1, 2]
    assert "watchlist.last-good: is truncated or modified" in map(str, config.warnings)
    assert numbers(starts.start(None)) == [1, 2]


def test_a_reload_is_refused_instead(starts: Starts) -> None:
    starts.write(more_b_dot_toml="")
    assert starts.errors(BOTH, fall_back=False) == [
        f"watchlist: more/b.toml no longer lists anything: 1 entry is missing; {HINT}"
    ]
    starts.write(more_b_dot_toml=factor(3))
    assert numbers(starts.start(BOTH, fall_back=False)) == [1, 2, 3]


def test_each_shard_has_its_part_of_it(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    entries = [table(number, identity=f"identity-{number:04}") for number in range(1, 40)]
    parts = [starts.start(stored(*entries), shard=Shard(ordinal, 2)) for ordinal in range(2)]
    assert sorted(number for part in parts for number in numbers(part)) == list(range(1, 40))
    assert all(part.factors for part in parts)
    assert {part.total_factors for part in parts} == {39}
    assert {tuple(part.listed.items()) for part in parts} == {(("main", 39),)}


def test_the_digest_is_of_what_is_in_effect(starts: Starts) -> None:
    good = starts.start(BOTH).sha256
    starts.write(a_dot_csv="")
    fallback = starts.start(BOTH).sha256
    starts.write(a_dot_csv="x")
    assert starts.start(BOTH).sha256 == fallback
    assert fallback != good


def test_an_unreadable_file_is_a_version_of_its_own(starts: Starts) -> None:
    starts.write(a_dot_csv=None)
    config = starts.start(BOTH)
    assert config.files[starts.directory / "a.csv"].sha256 == "unreadable"


def test_the_whole_watchlist_is_handed_over_once(starts: Starts) -> None:
    config = starts.start(None, shard=Shard(0, 1000))
    files = config.whole.take()
    assert files is not None
    assert [(of.pattern, of.name, len(of.factors), len(of.entities)) for of in files] == [
        ("a.csv", "a.csv", 2, 0),
        ("more/*.toml", "more/b.toml", 1, 0),
    ]
    assert config.whole.take() is None


def test_nothing_shows_an_identity(starts: Starts) -> None:
    starts.write(a_dot_csv="")
    config = starts.start(BOTH)
    assert "made-up-identity" not in repr(config) + repr(config.fallback) + repr(BOTH)
