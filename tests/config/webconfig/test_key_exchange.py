"""Which cipher suites and curves a client can use: real handshakes, one per suite and curve."""

from __future__ import annotations

import asyncio
import ctypes
import re
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from exporter.config import groups, tls
from tests.support.certificates import SERVER_NAMES, write_pair
from tests.support.https_exporter import PAIR, behind, client_context, handshake
from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.support.fixtures import Program

TLS12 = ssl.TLSVersion.TLSv1_2
CURVES = list(tls.CURVES)
CBC_AND_DHE = [
    "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA", "ECDHE-RSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384",
    "AES128-SHA", "AES256-SHA256", "AES128-GCM-SHA256", "DHE-RSA-AES128-SHA", "DHE-RSA-AES256-GCM-SHA384",
]  # fmt: skip
NAMES_IN_OPENSSL = {  # of several versions
    "CurveP256": "(P-256|prime256v1|secp256r1)",
    "CurveP384": "(P-384|secp384r1)",
    "CurveP521": "(P-521|secp521r1)",
    "X25519": "X25519",
}
LISTS = [
    *([name] for name in CURVES),
    ["X25519", "CurveP256"],
    ["CurveP384", "X25519"],
    ["CurveP521", "CurveP384", "CurveP256"],
    ["X25519", "X25519", "CurveP256", "CurveP384", "CurveP521"],
]


def with_key_of(folder: Path, kind: str) -> None:
    """Replace the server's certificate by one with a key of this kind, signed by an authority of its own."""
    authority = trustme.CA(key_type=trustme.KeyType[kind])
    authority.cert_pem.write_to_path(folder / "ca.crt")
    write_pair(folder, "server", authority.issue_cert(*SERVER_NAMES, key_type=trustme.KeyType[kind]))


async def agreed(url: str, context: ssl.SSLContext) -> str | None:
    """Return the cipher suite that is agreed on, None where there is none."""
    try:
        cipher = (await handshake(url, context)).cipher()
    except OSError:  # by an alert of TLS, or closed
        return None
    return None if cipher is None else cipher[0]


def kind_of(suite: str) -> str:
    return "ECDSA" if "ECDSA" in suite else "RSA"


# Cipher suites


@pytest.mark.parametrize("suite", tls.CIPHERS)
async def test_every_suite_that_is_listed_can_be_used_and_no_other(folder: Path, suite: str) -> None:
    with_key_of(folder, kind_of(suite))
    text = f"{PAIR}  cipher_suites: [{suite}]\nhttp_server_config: {{http2: false}}\n"
    async with behind(folder, text) as served:
        context = client_context(folder, version=TLS12)
        for name, openssl in tls.CIPHERS.items():
            context.set_ciphers(openssl)
            assert await agreed(served.url, context) == (openssl if name == suite else None), name


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
async def test_without_a_list_only_suites_with_authenticated_encryption_can_be_used(
    folder: Path, kind: str
) -> None:
    with_key_of(folder, kind)
    async with behind(folder, PAIR) as served:
        context = client_context(folder, version=TLS12)
        for name, openssl in tls.CIPHERS.items():
            context.set_ciphers(openssl)
            wanted = openssl if kind_of(name) == kind and "CBC" not in name else None
            assert await agreed(served.url, context) == wanted, name
        context.set_ciphers(":".join(CBC_AND_DHE))
        assert await agreed(served.url, context) is None


async def test_without_a_list_every_suite_of_tls13_can_be_used(folder: Path, program: Program) -> None:
    openssl = program("openssl", install="apt-get install openssl")
    async with behind(folder, PAIR) as served:
        for suite in tls.TLS13_CIPHERS:
            talk = await s_client(openssl, served.url, "-tls1_3", "-ciphersuites", suite)
            assert re.search(rf"^New, TLSv1.3, Cipher is {suite}$", talk, re.MULTILINE), talk


async def s_client(openssl: str, url: str, *options: str) -> str:
    """Return what ``openssl s_client`` prints of a handshake."""
    process = await asyncio.create_subprocess_exec(
        openssl, "s_client", "-connect", url.removeprefix("https://"), *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await process.communicate())[0].decode()


# Curves


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("listed", LISTS, ids=",".join)
async def test_every_curve_that_is_listed_can_be_used_and_no_other(
    folder: Path, program: Program, listed: list[str], version: str
) -> None:
    openssl = program("openssl", install="apt-get install openssl")
    with_key_of(folder, "RSA")  # in TLS 1.2, the curve of an ECDSA key would have to be the client's, too
    async with behind(folder, f"{PAIR}  curve_preferences: [{', '.join(listed)}]\n") as served:
        for name, curve in tls.CURVES.items():
            talk = await s_client(openssl, served.url, version, "-groups", curve)
            used = "BEGIN CERTIFICATE" in talk
            assert used is (name in listed), (name, talk)
        talk = await s_client(openssl, served.url, version, "-groups", ":".join(reversed(tls.CURVES.values())))
        first = listed[0] if version == "-tls1_2" else next(name for name in reversed(tls.CURVES) if name in listed)
        assert re.search(rf"Temp Key: .*{NAMES_IN_OPENSSL[first]}", talk), talk


async def test_without_a_list_every_curve_can_be_used(folder: Path, program: Program) -> None:
    openssl = program("openssl", install="apt-get install openssl")
    async with behind(folder, PAIR) as served:
        for curve in tls.CURVES.values():
            assert "BEGIN CERTIFICATE" in await s_client(openssl, served.url, "-tls1_3", "-groups", curve), curve


SYSTEM_PYTHON = Path("/usr/bin/python3")
ELSEWHERE = """
import importlib.util, ssl, sys
if sys.version_info < (3, 11):
    sys.exit("too old")
spec = importlib.util.spec_from_file_location("groups", sys.argv[1])
groups = importlib.util.module_from_spec(spec)
spec.loader.exec_module(groups)
for names in sys.argv[4:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    groups.restrict(context, names.split(":"))
    groups.verify(context, names.split(":"))
    print(*(group for group in groups._PROBED if groups._accepts(context, group)))
"""


@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason=f"there is no {SYSTEM_PYTHON}")
async def test_with_the_python_of_the_system(folder: Path) -> None:
    """Debian 12's is a version that can't set X25519 by itself."""
    pair = (str(folder / "server.crt"), str(folder / "server.key"))
    lists = ("X25519", "X25519:prime256v1", "secp384r1:X25519:secp521r1", "secp521r1")
    process = await asyncio.create_subprocess_exec(
        SYSTEM_PYTHON, "-I", "-c", ELSEWHERE, groups.__file__, *pair, *lists,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    if err.decode().strip() == "too old":
        pytest.skip(f"{SYSTEM_PYTHON} is older than 3.11")
    assert (process.returncode, err.decode()) == (0, "")
    assert out.decode().splitlines() == ["", "prime256v1", "secp384r1 secp521r1", "secp521r1"]


# What can't be enforced


def context_of(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


def raise_import_error(_name: str) -> None:
    raise ImportError


class OtherLayout:
    """A library in which the pointer leads to something else."""

    def SSL_CTX_get_options(self, _pointer: object) -> int:  # noqa: N802 - OpenSSL's name
        return 0x1234


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr("importlib.import_module", raise_import_error),
        lambda patch: patch.setattr("ctypes.CDLL", lambda _path: object()),
        lambda patch: patch.setattr(groups, "_openssl", OtherLayout),
        lambda patch: patch.setattr(sys.implementation, "name", "another"),
        lambda patch: patch.setattr(groups, "_SET_GROUPS_SINCE", (3, 0)),
        lambda patch: patch.setattr(groups, "_SET_GROUPS_LIST", 0),
    ],
    ids=["no ssl library", "no functions", "another structure", "no CPython", "a newer Python", "a refusal"],
)
def test_where_openssl_can_not_be_reached_several_curves_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    context = context_of(folder)
    with monkeypatch.context() as patch:
        change(patch)
        with pytest.raises(groups.GroupsError, match=r"^can't be enforced by Python 3\.\S+ with OpenSSL "):
            groups.restrict(context, ["X25519", "prime256v1"])
        groups.restrict(context, ["secp384r1"])  # which Python can by itself
    groups.verify(context, ["secp384r1"])


def test_a_python_that_can_is_left_to_do_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Newer(ssl.SSLContext):
        def set_groups(self, names: str) -> None:
            assert names == "X25519:secp384r1"
            groups._by_openssl(self, tuple(names.split(":")))

    context = Newer(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    groups.restrict(context, ["X25519", "secp384r1"])
    groups.verify(context, ["X25519", "secp384r1"])


def test_a_curve_that_is_accepted_without_being_listed_is_noticed(folder: Path) -> None:
    context = context_of(folder)
    with pytest.raises(groups.GroupsError):
        groups.verify(context, ["X25519"])
    groups.verify(context, ["prime256v1", "secp384r1", "secp521r1"])


def test_the_pointer_is_read_from_the_object(folder: Path) -> None:
    context = context_of(folder)
    library = groups._openssl()
    if library is None:
        pytest.skip("the functions of OpenSSL can't be reached")
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    for options in (ssl.OP_NO_TICKET, ssl.OP_NO_COMPRESSION | ssl.OP_SINGLE_ECDH_USE):
        context.options |= options
        assert library.SSL_CTX_get_options(pointer) == int(context.options)
