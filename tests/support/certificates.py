"""Certificates for tests: an authority, pairs for servers and clients, and invalid files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import trustme
from cryptography.hazmat.primitives import serialization

if TYPE_CHECKING:
    from pathlib import Path

SERVER_NAMES = ("localhost", "127.0.0.1", "::1")
CLIENT_NAME = "prometheus.example"


@dataclass(frozen=True, slots=True)
class Certificates:
    """A folder with ``server``, ``other``, ``client``, ``stranger`` (.crt and .key), ``ca.crt`` and bad files."""

    folder: Path
    authority: trustme.CA

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Create all files."""
        authority, foreign = trustme.CA(), trustme.CA()
        made = cls(folder, authority)
        authority.cert_pem.write_to_path(folder / "ca.crt")
        made.issue("server", *SERVER_NAMES)
        made.issue("other", *SERVER_NAMES)
        made.issue("client", CLIENT_NAME, "2001:db8::7")
        made.issue("guest", "guest.example")
        stranger = foreign.issue_cert(CLIENT_NAME)
        write_pair(folder, "stranger", stranger)
        (folder / "broken.crt").write_bytes(authority.cert_pem.bytes()[:200])
        (folder / "web.yml.txt").write_text("rate_limit:\n")
        key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
        (folder / "encrypted.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"made-up"),
            )
        )
        return made

    def issue(self, name: str, *names: str) -> None:
        """Create NAME.crt and NAME.key for these host names."""
        write_pair(self.folder, name, self.authority.issue_cert(*names))

    def copy_to(self, folder: Path) -> None:
        """Copy all files into another folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


def write_pair(folder: Path, name: str, pair: trustme.LeafCert) -> None:
    (folder / f"{name}.crt").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    (folder / f"{name}.key").write_bytes(pair.private_key_pem.bytes())
