"""``init``: what it writes, what it refuses, and what it asks on a terminal; against the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import re
import signal
import stat
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.cli.init import VALUES, Answers, _beside, quoted
from exporter.config.settings import Settings
from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import HINTS, Reason
from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from exporter.simulator import Simulator
    from tests.support.commands import Ran

    Init = Callable[..., Awaitable[Ran]]

COMMAND = (sys.executable, "-m", "exporter")
VA, YF, AC, SK = (f"{prefix}{'0a' * 16}" for prefix in ("VA", "YF", "AC", "SK"))
IDENTITY = "made-up-identity"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder with a password file."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("Xq3vT8mZp1LwK5sYb9Rj2Nf7Dg4Hc6Ua\n")
    secret.chmod(0o600)


def account(simulator: Simulator) -> tuple[str, ...]:
    """Return the flags of the simulator's account, and write its password."""
    Path("secret").write_text(f"{simulator.password}\n")
    return (
        f"--account-sid={simulator.account_sid}",
        *(() if simulator.username == simulator.account_sid else (f"--username={simulator.username}",)),
        "--password-file=secret",
        f"--base-url={simulator.base_url}",
    )


def offline(**flags: str) -> list[str]:
    """Return flags that need no request; an empty value leaves a flag out."""
    values = {"account-sid": AC, "password-file": "secret", "service": VA, "entity": IDENTITY, "factor": YF}
    values |= {name.replace("_", "-"): value for name, value in flags.items()}
    return [f"--{name}={value}" for name, value in values.items() if value]


def written(path: str = "config.toml") -> dict[str, object]:
    return tomllib.loads(text_of(path))


def text_of(path: str = "config.toml") -> str:
    return Path(path).read_text(encoding="utf-8")


def exists(path: str = "config.toml") -> bool:
    return Path(path).exists()


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


# From flags


@pytest.mark.parametrize("username", ["", SK])
@pytest.mark.parametrize("name", ["", "payments-oncall-push", 'quo"ted \\ back 日本語 \U0001f511 # no comment'])
def test_a_factor_needs_no_request(call: Callable[..., Ran], username: str, name: str) -> None:
    ran = call("init", *offline(username=username, name=name))

    assert (ran.status, ran.err) == (0, "")
    assert written() == {
        "accounts": {
            "main": {
                "account_sid": AC,
                **({"username": username} if username else {}),
                "password_file": "secret",
            }
        },
        "factors": [
            {**({"name": name} if name else {}), "service_sid": VA, "identity": IDENTITY, "factor_sid": YF}
        ],
    }
    assert mode_of("config.toml") == 0o600
    assert ran.out.splitlines() == [
        f'config.toml written; it watches the factor "{name or YF}"',
        "next:",
        "  verify-factor-exporter check --live",
        "  verify-factor-exporter fetch",
        "  verify-factor-exporter run",
    ]
    checked = call("check")
    assert (checked.status, checked.out, checked.err) == (0, "config.toml is valid: 1 account, 1 factor\n", "")


def test_the_commented_keys_are_valid_and_have_their_defaults(call: Callable[..., Ran]) -> None:
    assert call("init", *offline()).status == 0
    text = text_of()
    assert max(map(len, text.splitlines())) <= 120
    active = re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)
    assert active != text
    Path("config.toml").write_text(active, encoding="utf-8")

    document = tomllib.loads(active)
    settings = Settings()
    assert call("check").status == 0
    assert document["polling"] == {"interval": "5m"}
    assert settings.polling.interval == 300
    assert document["web"] == {"listen_address": ":10069"}
    assert [str(address) for address in settings.web.listen_address] == [":10069"]
    assert document["state"] == {"file": ""}
    assert document["factors"][0]["labels"] == {"team": "payments"}


def test_another_file_is_named_in_the_next_commands(call: Callable[..., Ran]) -> None:
    Path("my folder").mkdir()
    ran = call("init", "--config.file", "my folder/exporter.toml", *offline())

    assert ran.status == 0
    assert "  verify-factor-exporter run --config.file 'my folder/exporter.toml'" in ran.out.splitlines()
    assert written("my folder/exporter.toml")["accounts"] == {
        "main": {"account_sid": AC, "password_file": str(Path("secret").absolute())}
    }
    assert call("check", "--config.file", "my folder/exporter.toml").status == 0


@pytest.mark.parametrize(
    ("config", "secret", "named"),
    [
        ("config.toml", "secret", "secret"),
        ("config.toml", "./secrets/../secret", "secret"),
        ("config.toml", "/run/secrets/twilio", "/run/secrets/twilio"),
        ("etc/config.toml", "etc/secrets/twilio", "secrets/twilio"),
        ("etc/config.toml", "secret", "{here}/secret"),
        ("config.toml", "../secret", "{above}/secret"),
    ],
)
def test_the_password_file_is_named_relative_to_the_configuration(config: str, secret: str, named: str) -> None:
    here = Path.cwd()

    assert _beside(Path(config), secret) == named.format(here=here, above=here.parent)


@pytest.mark.parametrize("text", ['"', "\\", "\\u0041", "é日本", "\U0001f511", "a # b", "'''", ""])
def test_strings_are_toml(text: str) -> None:
    assert tomllib.loads(f"key = {quoted(text)}") == {"key": text}


# What it refuses


@pytest.mark.parametrize("kind", ["file", "empty", "folder", "link"])
def test_an_existing_file_stays(call: Callable[..., Ran], kind: str) -> None:
    path = Path("config.toml")
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
        case _:
            path.write_text("# mine\n" if kind == "file" else "")
    before = path.lstat()
    ran = call("init", *offline())

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        "config.toml exists, and init replaces no file; choose another one with --config.file, or move it away",
        "config.toml was not written",
    ]
    assert path.lstat() == before
    assert not exists("nowhere")


def test_what_is_missing_is_named_without_a_terminal(call: Callable[..., Ran]) -> None:
    ran = call("init")
    assert (ran.status, ran.out) == (64, "")
    assert ran.err == (
        "verify-factor-exporter init: missing --account-sid, --password-file, --service; set them, or run init on "
        "a terminal, where it asks\n"
    )
    assert "missing --service;" in call("init", *offline(service="")).err
    assert "--factor needs --entity" in call("init", *offline(entity="")).err
    assert not exists()


@pytest.mark.parametrize(
    ("flag", "value", "problem"),
    [
        ("service", "VX12", '--service: "VX12" is not a Verify Service SID (VA followed by 32 hex digits)'),
        ("service", YF, f'--service: "{YF}" is a Verify Factor SID, not a Verify Service SID'),
        ("account-sid", "made-up-secret", "--account-sid: the value (14 characters) is not an Account SID"),
        ("entity", "short", "--entity: has 5 characters; an identity has 8 to 64"),
        ("entity", "not an identity", "--entity: contains a character other than letters"),
        ("name", "line\nbreak", "--name: contains a control or text-direction character (U+000A"),
        (
            "password-file",
            "none",
            "--password-file: none does not exist; create it, for example with: install -m 600",
        ),
        ("password-file", "empty", "--password-file: empty is empty; enter the secret"),
        ("password-file", "\udcff", "--password-file: is not UTF-8 text; rename the file"),
        ("password-file", " secret", "--password-file: has white space around it; remove it"),
        ("password-file", ".", "--password-file: . is a directory; name a file in it"),
        ("base-url", "http://example.com", "--base-url: would send the password unencrypted"),
    ],
)
def test_a_bad_flag_is_named(call: Callable[..., Ran], flag: str, value: str, problem: str) -> None:
    Path("empty").touch()
    ran = call("init", *offline(**{flag: value}))

    assert (ran.status, ran.out) == (64, "")
    assert ran.err.startswith(f"verify-factor-exporter init: {problem}")
    assert not exists()
    assert "made-up" not in ran.err


def test_an_empty_path_is_no_password_file(call: Callable[..., Ran]) -> None:
    ran = call("init", *offline(password_file=""), "--password-file=")

    assert (ran.status, ran.out) == (64, "")
    assert ran.err == "verify-factor-exporter init: --password-file: is empty; name a file\n"


def test_a_file_that_appears_meanwhile_stays(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.cli.init._refuse_existing", lambda _path: None)
    Path("config.toml").write_text("# mine\n")
    ran = call("init", *offline())

    assert (ran.status, ran.out, text_of()) == (1, "", "# mine\n")
    assert ran.err.startswith("config.toml exists, and init replaces no file; ")


def test_answers_do_not_show_the_identity() -> None:
    answers = Answers(AC, SK, "secret", VA, IDENTITY, YF, "name", "")

    assert repr(answers) == f"Answers('{VA}', ...)"


def test_a_folder_that_does_not_exist(call: Callable[..., Ran]) -> None:
    ran = call("init", "--config.file=nowhere/config.toml", *offline())

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("nowhere/config.toml cannot be written (No such file or directory)\n")


def test_a_variable_that_makes_the_configuration_unusable(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFY_EXPORTER_POLLING__INTERVAL", "5")
    ran = call("init", *offline())

    assert (ran.status, ran.out) == (1, "")
    assert "VERIFY_EXPORTER_POLLING__INTERVAL" in ran.err
    assert ran.err.endswith("\nconfig.toml was not written\n")
    assert not exists()


def test_a_disk_that_is_full_leaves_no_file(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("exporter.cli.init._found", fail)
    ran = call("init", *offline())

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "config.toml cannot be written (No space left on device)\nconfig.toml was not written\n"
    assert not exists()


# By listing


async def test_a_service_is_listed_until_a_factor_is_found(call_beside: Init, simulator: Simulator) -> None:
    service = simulator.add_service()
    for _ in range(200):
        simulator.add_factor(service_sid=service.sid)
    ran = await call_beside("init", *account(simulator), f"--service={service.sid}", "--name=consumer")

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"config.toml written; it watches every factor of the service {service.sid}\n")
    assert written()["services"] == [{"name": "consumer", "service_sid": service.sid}]
    assert simulator.calls.by_code[Endpoint.LIST, "200"] < 100
    assert simulator.calls.by_factor.total() == 0
    assert simulator.password not in text_of()
    checked = await call_beside("check", "--live")
    assert checked.status == 0, checked.err


async def test_an_entity_is_listed_and_its_factors_are_offered(call_beside: Init, simulator: Simulator) -> None:
    first = simulator.add_factor(identity=IDENTITY)
    factors = {of.sid: of for of in (first, *(simulator.add_factor(identity=IDENTITY) for _ in range(22)))}
    flags = (*account(simulator), f"--service={first.service_sid}", f"--entity={IDENTITY}", "--name=ops-oncall")
    ran = await call_beside("init", *flags)

    assert (ran.status, ran.err) == (0, "")
    assert written()["entities"] == [{"name": "ops-oncall", "service_sid": first.service_sid, "identity": IDENTITY}]
    said = ran.out.splitlines()[0]
    start = "config.toml written; it watches every factor of an entity, now 23 factors: "
    assert said.startswith(start)
    names = said.removeprefix(start).split(", ")
    assert names.pop() == "…"
    assert set(names) <= {f"ops-oncall-{sid[-8:]}" for sid in factors}
    assert IDENTITY not in ran.out

    text = text_of()
    assert max(map(len, text.splitlines())) <= 120
    assert "# It had 23 factors when this was written." in text
    assert "# … and 3 more\n" in text
    instead = re.sub(r"^\[\[entities\]\]\n(?:[^#\n].*\n)+", "", text, flags=re.MULTILINE)
    instead = re.sub(r"^#(?=\[\[factors|name|service_sid|identity|factor_sid)", "", instead, flags=re.MULTILINE)
    listed = tomllib.loads(instead)["factors"]
    assert len(listed) == len(names) == 20
    for of in listed:
        assert of["factor_sid"] in factors
        assert (of["service_sid"], of["identity"]) == (first.service_sid, IDENTITY)
    Path("config.toml").write_text(instead)  # noqa: ASYNC240  a test's file
    fetched = await call_beside("fetch", "--output=json")
    assert (fetched.status, len(json.loads(fetched.out)["factors"])) == (0, 20)


@pytest.mark.parametrize("entity", [True, False])
async def test_nothing_found_yet_is_a_warning(call_beside: Init, simulator: Simulator, entity: bool) -> None:
    of = simulator.add_entity(identity=IDENTITY)
    flags = [f"--entity={IDENTITY}"] if entity else []
    ran = await call_beside("init", *account(simulator), f"--service={of.service_sid}", *flags)

    assert (ran.status, ran.err) == (0, "warning: no factor was found yet\n")
    array, name = ("entities", "entity") if entity else ("services", "service")
    assert [of["name"] for of in written()[array]] == [name]  # type: ignore[attr-defined]  # a list of tables


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault(operation=Endpoint.LIST, status=403), f"HTTP 403, Twilio error 20403; {HINTS[Reason.FORBIDDEN]}"),
        (Fault(operation=Endpoint.LIST, status=401), f"HTTP 401, Twilio error 20003; {HINTS[Reason.AUTH]}"),
        (Fault(FaultKind.HTML, operation=Endpoint.LIST, status=404), HINTS[Reason.DECODE]),
    ],
)
async def test_a_listing_that_fails_leaves_no_file(
    call_beside: Init, simulator: Simulator, fault: Fault, problem: str
) -> None:
    factor = simulator.add_factor(identity=IDENTITY)
    simulator.faults.add(fault)
    flags = (*account(simulator), f"--service={factor.service_sid}", f"--entity={IDENTITY}", "--name=ops")
    ran = await call_beside("init", *flags)

    assert (ran.status, ran.out) == (1, "")
    said, last = ran.err.splitlines()
    assert said.startswith('main: entity "ops" not listed: ')
    assert problem in said
    assert last == "config.toml was not written"
    assert not exists()
    assert IDENTITY not in ran.err
    assert simulator.password not in ran.err


async def test_a_part_of_a_listing_is_enough_for_a_warning(call_beside: Init, simulator: Simulator) -> None:
    factor = simulator.add_factor(identity=IDENTITY)
    listed = [{"sid": factor.sid, "factor_type": factor.factor_type}]
    following = "https://verify.twilio.com/v2/Factors?PageSize=20&Page=1&PageToken=none"
    body = json.dumps({"factors": listed, "meta": {"key": "factors", "next_page_url": following}})
    simulator.faults.add(Fault(FaultKind.BODY, operation=Endpoint.LIST, body=body, times=1))
    flags = (*account(simulator), f"--service={factor.service_sid}", f"--entity={IDENTITY}")
    ran = await call_beside("init", *flags)

    assert ran.status == 0
    assert ran.err.startswith('warning: main: entity "entity" not listed: ')
    assert ", now 1 factor: entity-" in ran.out


async def test_control_c_during_the_listing_leaves_no_file(simulator: Simulator) -> None:
    factor = simulator.add_factor()
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, operation=Endpoint.LIST_ENTITIES))
    flags = (*account(simulator), f"--service={factor.service_sid}")
    pipe = asyncio.subprocess.PIPE
    async with (
        spawned(*COMMAND, "init", *flags, stdout=pipe, stderr=pipe, env=environment()) as process,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await becomes(lambda: simulator.calls.in_flight)
        assert exists()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    assert (process.returncode, out, err) == (130, b"", b"")
    assert not exists()


# On a terminal


class Typed(io.StringIO):
    """A terminal's input: lines, and then its end."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def answer(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run ``init`` in this process with answers, and secrets that are typed without echo."""

    def run(answers: list[str], secrets: list[str], *words: str) -> Ran:
        def typed(_question: str, stream: object = None) -> str:
            if not secrets:
                raise EOFError
            return secrets.pop(0)

        monkeypatch.setattr("sys.stdin", Typed("".join(f"{line}\n" for line in answers)))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setattr("getpass.getpass", typed)
        return call("init", *words)

    return run


def test_the_answers_become_the_configuration(answer: Callable[..., Ran]) -> None:
    ran = answer(["AC12", AC, SK, "own", VA, IDENTITY, YF, ""], ["", "a\tb", " made-up-key "])

    assert (ran.status, written()["factors"]) == (
        0,
        [{"name": YF, "service_sid": VA, "identity": IDENTITY, "factor_sid": YF}],
    )
    assert written()["accounts"] == {"main": {"account_sid": AC, "username": SK, "password_file": "own"}}
    assert (text_of("own"), mode_of("own")) == ("made-up-key\n", 0o600)
    assert '"AC12" is not an Account SID' in ran.err
    assert "  is empty; enter the secret\n" in ran.err
    assert "  contains a line break, tab or other control character; remove it\n" in ran.err
    assert "  own created; only you can read it\n" in ran.err
    assert "made-up" not in ran.out + ran.err


def test_an_existing_password_file_is_used(answer: Callable[..., Ran]) -> None:
    ran = answer(["secret", VA, IDENTITY, YF, "name"], [], f"--account-sid={AC}", f"--username={SK}")

    assert ran.status == 0
    assert "  secret exists, and is used as it is\n" in ran.err


@pytest.mark.parametrize("known", [[], [AC, SK, "own"]])
def test_without_further_answers_nothing_is_written(answer: Callable[..., Ran], known: list[str]) -> None:
    ran = answer(known, [])

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.endswith("\nno more answers\nconfig.toml was not written\n")
    assert not exists()
    assert not exists("own")


def test_a_password_file_that_can_not_be_created(answer: Callable[..., Ran]) -> None:
    ran = answer([AC, SK, "nowhere/own"], ["made-up-key"])

    assert (ran.status, ran.out) == (1, "")
    assert "nowhere/own cannot be written (No such file or directory)\n" in ran.err


class Terminal:
    """Types answers into a command and reads what it prints."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""

    async def answer(self, question: str, text: str, end: str = "\n") -> None:
        """Wait until the end of what is shown is this question, then type."""
        await self.shows(question)
        self.shown += "\0"  # the next question is a new one
        await asyncio.to_thread(os.write, self._descriptor, f"{text}{end}".encode())

    async def shows(self, text: str) -> None:
        """Wait until a text is shown after the last answer."""
        while text not in self.shown.rpartition("\0")[2]:
            piece = await asyncio.to_thread(os.read, self._descriptor, 4096)
            self.shown += piece.decode()

    async def end(self) -> str:
        """Read to the end; return everything."""
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while piece := await asyncio.to_thread(os.read, self._descriptor, 4096):
                self.shown += piece.decode()
        return self.shown.replace("\0", "").replace("\r\n", "\n")


def environment() -> dict[str, str]:
    """Return variables with which the package is found from another folder."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


@contextlib.asynccontextmanager
async def on_terminal(*words: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Terminal]]:
    """Run ``init`` on a terminal."""
    ours, theirs = pty.openpty()
    try:
        async with (
            spawned(
                *COMMAND, "init", *words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
            ) as process,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            os.close(theirs)
            yield process, Terminal(ours)
    finally:
        os.close(ours)


ACCOUNT_QUESTION = "Account SID (AC…): "
KEY_QUESTION = "its auth token): "
FILE_QUESTION = "or the auth token [twilio-secret]: "
SECRET_QUESTION = "twilio-secret does not exist. The secret to write into it (not shown): "
SERVICE_QUESTION = "Verify Service SID (VA…): "
ENTITY_QUESTION = "every entity of the service): "
FACTOR_QUESTION = "every factor of the entity): "


async def test_a_terminal_asks_for_what_has_no_flag(simulator: Simulator) -> None:
    factor = simulator.add_factor(identity=IDENTITY)
    async with on_terminal(f"--base-url={simulator.base_url}") as (process, terminal):
        await terminal.answer(ACCOUNT_QUESTION, "AC12")
        await terminal.shows('"AC12" is not an Account SID')
        await terminal.answer(ACCOUNT_QUESTION, f" {simulator.account_sid} ")
        username = "" if simulator.username == simulator.account_sid else simulator.username
        await terminal.answer(KEY_QUESTION, username)
        await terminal.answer(FILE_QUESTION, "")
        await terminal.answer(SECRET_QUESTION, "")
        await terminal.answer(SECRET_QUESTION, simulator.password)
        await terminal.answer(SERVICE_QUESTION, factor.service_sid)
        await terminal.answer(ENTITY_QUESTION, "short")
        await terminal.answer(ENTITY_QUESTION, IDENTITY)
        await terminal.answer(FACTOR_QUESTION, "")
        await terminal.answer("never a person's [entity]: ", "ops")
        shown = await terminal.end()
        assert await process.wait() == 0, shown

    assert simulator.password not in shown
    assert shown.count(IDENTITY) == 1  # the echo of what was typed
    assert (
        f"config.toml written; it watches every factor of an entity, now 1 factor: ops-{factor.sid[-8:]}" in shown
    )
    assert text_of("twilio-secret") == f"{simulator.password}\n"
    assert (mode_of("twilio-secret"), mode_of("config.toml")) == (0o600, 0o600)
    assert written()["entities"] == [{"name": "ops", "service_sid": factor.service_sid, "identity": IDENTITY}]


async def test_a_terminal_is_not_asked_for_what_has_a_flag(simulator: Simulator) -> None:
    factor = simulator.add_factor(identity=IDENTITY)
    flags = account(simulator)
    async with on_terminal(*flags) as (process, terminal):
        await terminal.answer(SERVICE_QUESTION, factor.service_sid)
        await terminal.answer(ENTITY_QUESTION, IDENTITY)
        await terminal.answer(FACTOR_QUESTION, factor.sid)
        await terminal.answer(f"never a person's [{factor.sid}]: ", "payments")
        shown = await terminal.end()
        assert await process.wait() == 0, shown

    assert "Account SID (AC…)" not in shown
    assert simulator.calls.total == 0
    assert written()["factors"] == [
        {
            "name": "payments",
            "service_sid": factor.service_sid,
            "identity": IDENTITY,
            "factor_sid": factor.sid,
        }
    ]


async def test_all_flags_need_no_answer_on_a_terminal(simulator: Simulator) -> None:
    factor = simulator.add_factor()
    async with on_terminal(*account(simulator), f"--service={factor.service_sid}") as (process, terminal):
        shown = await terminal.end()
        assert await process.wait() == 0, shown

    assert "): " not in shown
    assert written()["services"] == [{"name": "service", "service_sid": factor.service_sid}]


@pytest.mark.parametrize("answers", [0, 3])
@pytest.mark.parametrize(("key", "status"), [("\x04", 1), ("\x03", 130)])
async def test_control_d_and_control_c_end_the_questions(answers: int, key: str, status: int) -> None:
    questions = ((ACCOUNT_QUESTION, AC), (KEY_QUESTION, SK), (FILE_QUESTION, ""), (SECRET_QUESTION, ""))
    async with on_terminal() as (process, terminal):
        for question, answer in questions[:answers]:
            await terminal.answer(question, answer)
        await terminal.shows(questions[answers][0])
        if key == "\x03":
            process.send_signal(signal.SIGINT)  # as the terminal's driver does
        else:
            await terminal.answer(questions[answers][0], key, end="")
        shown = await terminal.end()
        assert await process.wait() == status, shown

    assert ("no more answers\nconfig.toml was not written\n" in shown) is (key == "\x04")
    assert "Traceback" not in shown
    assert not exists()
    assert not exists("twilio-secret")


def test_an_existing_file_is_found_before_any_question(call: Callable[..., Ran]) -> None:
    Path("config.toml").touch()

    assert call("init").err.startswith("config.toml exists")


def test_every_flag_has_a_help_text(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(call("init", "--help").out.split())

    for value in VALUES:
        assert f"{value.flag} {value.placeholder} {value.help}" in shown
