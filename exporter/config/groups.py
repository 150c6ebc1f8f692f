"""Key exchange of TLS: restricts a context to some groups (curves), completely or not at all.

Apart from tls.py because only this module goes beneath Python's ssl module, which before Python 3.15 sets a single
group, and in some versions (Debian 12's 3.11.2) no X25519. It needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import importlib
import ssl
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_PROBED = ("prime256v1", "secp384r1", "secp521r1")  # every version of ssl can offer one of these alone
_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST of openssl/ssl.h
_SET_GROUPS_SINCE = (3, 15)
_SAME_BITS = 0xFFFF_FFFF


class GroupsError(Exception):
    """The groups can't be enforced; the message names the versions of Python and OpenSSL."""

    def __init__(self) -> None:
        super().__init__(f"can't be enforced by Python {sys.version.split()[0]} with {ssl.OPENSSL_VERSION}")


def restrict(context: ssl.SSLContext, groups: Sequence[str]) -> None:
    """Allow these groups of OpenSSL only, in order of preference; raises :class:`GroupsError`.

    https://docs.openssl.org/3.0/man3/SSL_CTX_set1_curves/
    """
    names = tuple(dict.fromkeys(groups))
    if not (_by_python(context, names) or _by_openssl(context, names)):
        raise GroupsError


def verify(context: ssl.SSLContext, groups: Collection[str]) -> None:
    """Check with handshakes in memory that a server's context refuses other groups; raises :class:`GroupsError`."""
    if any(_accepts(context, group) for group in _PROBED if group not in groups):
        raise GroupsError


def _by_python(context: ssl.SSLContext, names: tuple[str, ...]) -> bool:
    try:
        if (set_groups := getattr(context, "set_groups", None)) is not None:
            set_groups(":".join(names))
        elif len(names) == 1:
            context.set_ecdh_curve(names[0])
        else:
            return False
    except (ssl.SSLError, ValueError):
        return False
    return True


def _by_openssl(context: ssl.SSLContext, names: tuple[str, ...]) -> bool:
    """Set the groups of the SSL_CTX, which follows the header of the object in every CPython before 3.15."""
    library = _openssl()
    if library is None or sys.implementation.name != "cpython" or sys.version_info >= _SET_GROUPS_SINCE:
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if (library.SSL_CTX_get_options(pointer) ^ context.options) & _SAME_BITS:
        return False  # another structure than expected
    done: int = library.SSL_CTX_ctrl(pointer, _SET_GROUPS_LIST, 0, ":".join(names).encode("ascii"))
    return done == 1


def _openssl() -> ctypes.CDLL | None:
    """Return the OpenSSL that the ssl module uses, None where its functions can't be reached."""
    try:
        library = ctypes.CDLL(getattr(importlib.import_module("_ssl"), "__file__", None))
        library.SSL_CTX_get_options.argtypes = (ctypes.c_void_p,)
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
        library.SSL_CTX_ctrl.restype = ctypes.c_long
    except (ImportError, OSError, AttributeError):
        return None
    return library


def _accepts(context: ssl.SSLContext, group: str) -> bool:
    """Return whether a server answers a client that offers one group only."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ecdh_curve(group)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    offer = client.wrap_bio(to_client, to_server)
    answer = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (offer, answer):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError:
            return False
    return True
