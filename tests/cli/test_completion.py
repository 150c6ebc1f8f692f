"""``completion``: scripts that the shells accept, and what they complete."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from exporter.cli import COMMANDS
from tests.support.commands import Ran
from tests.support.processes import output_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fixtures import Program

SHELLS = ("bash", "zsh", "fish")
EVERY_FETCH_FLAG = {"--config.file", "--output", "--help", "--traceback"}


@pytest.fixture
def script(call: Callable[..., Ran], tmp_path: Path) -> Callable[[str], Path]:
    """Write the script for a shell, and return its path."""

    def write(shell: str) -> Path:
        ran = call("completion", shell)
        assert (ran.status, ran.err) == (0, "")
        path = tmp_path / f"completion.{shell}"
        path.write_text(ran.out, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_has_every_command(script: Callable[[str], Path], shell: str) -> None:
    text = script(shell).read_text(encoding="utf-8")

    assert "verify-factor-exporter" in text
    assert [name for name in COMMANDS if name not in text] == []
    assert "listen-variable" not in text, "a hidden flag"


def test_another_shell_is_refused(call: Callable[..., Ran]) -> None:
    ran = call("completion", "fsh")

    assert (ran.status, ran.out) == (64, "")
    assert '(did you mean "fish"?)' in ran.err


def test_the_shell_in_use_is_the_default(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    named = call("completion", "fish")
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert call("completion") == named

    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert call("completion") == Ran(64, "", "verify-factor-exporter completion: name the shell: bash, zsh, fish\n")


async def bash(program: Program, script: Path, *words: str) -> set[str]:
    """Return what bash offers for the last of the words."""
    code = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; "
        'function=$(complete -p verify-factor-exporter); function=${function#*-F }; "${function%% *}"; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = program("bash", install="apt-get install bash")
    status, out, err = await output_of(path, "--norc", "-c", code)
    assert (status, err) == (0, b"")
    return set(out.decode().split())


async def test_bash_accepts_it_and_completes(
    script: Callable[[str], Path], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script("bash")
    assert await output_of(program("bash", install="apt-get install bash"), "-n", str(path)) == (0, b"", b"")

    (tmp_path / "staging.toml").touch()
    monkeypatch.chdir(tmp_path)
    command = "verify-factor-exporter"
    assert await bash(program, path, command, "") == set(COMMANDS)
    assert await bash(program, path, command, "fe") == {"fetch"}
    assert await bash(program, path, command, "fetch", "-") >= EVERY_FETCH_FLAG
    assert await bash(program, path, command, "fetch", "--output", "j") == {"json"}
    assert await bash(program, path, command, "run", "--log.level", "") == {"debug", "info", "warning", "error"}
    assert await bash(program, path, command, "check", "--config.file", "sta") == {"staging.toml"}
    assert await bash(program, path, command, "completion", "") == set(SHELLS)


@pytest.mark.external
async def test_zsh_accepts_it(script: Callable[[str], Path], program: Program, tmp_path: Path) -> None:
    path = script("zsh")
    zsh = program("zsh", install="apt-get install zsh")
    assert await output_of(zsh, "-f", "-n", str(path)) == (0, b"", b"")

    code = (
        f"autoload -U compinit; compinit -u -d {shlex.quote(str(tmp_path / 'dump'))}; "
        f'eval "$(<{shlex.quote(str(path))})"; print -r -- ${{_comps[verify-factor-exporter]}}; '
        "print -rl -- ${(k)functions} | grep -c '^_shtab_verify_factor_exporter'"
    )
    status, out, err = await output_of(zsh, "-f", "-c", code)
    assert (status, err) == (0, b"")
    assert out.decode().splitlines()[0] == "_shtab_verify_factor_exporter"


@pytest.mark.external
async def test_fish_accepts_it_and_completes(
    script: Callable[[str], Path], program: Program, tmp_path: Path
) -> None:
    path = script("fish")
    fish = program("fish", install="apt-get install fish")
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert await output_of(fish, "--no-execute", str(path), env=environ) == (0, b"", b"")

    async def offered(line: str) -> set[str]:
        code = f"source {shlex.quote(str(path))}; complete -C {shlex.quote(line)}"
        status, out, err = await output_of(fish, "--no-config", "-c", code, env=environ)
        assert (status, err) == (0, b"")
        return {offer.partition("\t")[0] for offer in out.decode().splitlines()}

    command = "verify-factor-exporter"
    assert await offered(f"{command} ") == set(COMMANDS)
    assert await offered(f"{command} fetch --") >= EVERY_FETCH_FLAG
    assert await offered(f"{command} fetch --output ") >= {"table", "json", "openmetrics"}
    assert await offered(f"{command} run --log.format ") == {"logfmt", "json"}
