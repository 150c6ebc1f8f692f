"""Addresses: where the exporter listens, the URLs of the API and of a proxy, and URL templates of links."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from exporter.config.errors import InvalidValueError, nearest, quote
from exporter.config.values import check_printable, wrong_kind
from exporter.watched import is_loopback

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_HOST_NAME = 253
_PORT = re.compile(r"[0-9]{1,5}")
_URL_TEXT = re.compile(r"[\x21-\x7e]+")
_TOKEN_PATH = "/v2/token"  # noqa: S105  a path, no password
_API_PATH = re.compile(r"/+v2(/Services(/.*)?)?/*\Z", re.IGNORECASE)  # what the client adds itself

LINK_PLACEHOLDERS = ("account", "service_sid", "factor", "factor_sid")
"""What a URL template of a link may contain in braces, besides ``label.NAME``."""
LINK_LABEL = "label."
LINK_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LABEL_PLACEHOLDER = re.compile(r"label\.[a-zA-Z_][a-zA-Z0-9_]*")
_KNOWN_PLACEHOLDERS = f"{{{'}, {'.join(LINK_PLACEHOLDERS)}}} and {{label.NAME}}"
_LONGEST_LINK_NAME = 40


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a server listens: on a host or on every address (None), and a port (0: chosen by the system)."""

    host: str | None
    port: int

    def __str__(self) -> str:
        if self.host is None:
            return f":{self.port}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen_address(value: object) -> ListenAddress:
    """Return the address of ``":10069"``, ``"127.0.0.1:0"``, ``"[::1]:9"`` or ``"host:port"``."""
    if isinstance(value, ListenAddress):
        return value
    if not isinstance(value, str):
        wrong_kind(value, 'an address such as ":10069"')
    host, colon, port = value.rpartition(":")
    if not colon and _PORT.fullmatch(value):
        raise InvalidValueError(value, f'needs a colon: ":{value}"')
    if not colon or not _PORT.fullmatch(port):
        raise InvalidValueError(value, 'has no port; write an address such as ":10069" or "127.0.0.1:10069"')
    if int(port) > 65535:
        raise InvalidValueError(value, "has a port above 65535")
    if not host:
        return ListenAddress(None, int(port))
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise InvalidValueError(value, "has no valid IPv6 address in its brackets") from None
        return ListenAddress(host[1:-1], int(port))
    if ":" in host:
        raise InvalidValueError(value, 'has an IPv6 address without brackets; write it like "[::1]:10069"')
    if not _HOST_NAME.fullmatch(host):
        raise InvalidValueError(value, "has a host that is neither a host name nor an IP address")
    return ListenAddress(host, int(port))


def listen_address_list(value: object) -> list[object]:
    """Return one address or a list of them as a list; its items are parsed later."""
    if not isinstance(value, list | tuple):
        return [parse_listen_address(value)]
    if not value:
        raise ValueError('is an empty list; name at least one address, such as ":10069"')
    return list(value)


def check_different(addresses: tuple[ListenAddress, ...]) -> tuple[ListenAddress, ...]:
    """Return the addresses; raises ValueError where one is listed twice."""
    for index, address in enumerate(addresses):
        if address.port and address in addresses[:index]:
            raise InvalidValueError(str(address), "is listed twice; remove one")
    return addresses


def parse_optional_listen_address(value: object) -> ListenAddress | None:
    """Return a listen address, or None for an empty string."""
    return None if value == "" else parse_listen_address(value)


def parse_host_name(value: object) -> str:
    """Return a host name in the form in which names are compared: lower case, without the dot at its end."""
    if not isinstance(value, str):
        wrong_kind(value, 'a host name such as "exporter.example.com"')
    if "/" in value:
        raise InvalidValueError(value, 'is a URL; write the host name alone, such as "exporter.example.com"')
    if is_address(value):
        raise InvalidValueError(value, "is an IP address, and those are always allowed; remove it")
    name, colon, port = value.rpartition(":")
    if colon and is_address(name):
        raise InvalidValueError(value, "is an IP address with a port, and addresses are always allowed; remove it")
    if colon and _PORT.fullmatch(port) and _is_host_name(name):
        raise InvalidValueError(value, f'has a port; write "{name}"')
    if "*" in value:
        raise InvalidValueError(value, "has a wildcard, which is not supported; list every name")
    if not value.isascii():
        raise InvalidValueError(value, 'has a character other than ASCII; write the form that starts with "xn--"')
    if not _is_host_name(value):
        problem = 'is not a host name such as "exporter.example.com" (letters, digits, "-" and "_", joined by dots)'
        raise InvalidValueError(value, problem)
    return canonical_host_name(value)


def canonical_host_name(name: str) -> str:
    """Return a host name in the form in which names are compared."""
    return name.lower().removesuffix(".")


def check_different_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names; raises ValueError where one is listed twice."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidValueError(name, "is listed twice; remove one")
    return names


def _is_host_name(text: str) -> bool:
    name = text.removesuffix(".")
    return len(name) <= _LONGEST_HOST_NAME and all(_LABEL.fullmatch(label) for label in name.split("."))


def is_address(text: str) -> bool:
    """Return whether a text is an IP address; an IPv6 address may be in brackets."""
    try:
        ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return False
    return True


def parse_base_url(value: object) -> str:
    """Return the API's URL without trailing slashes; never quotes one that may contain credentials.

    Every request carries the password, so plain HTTP is accepted for this machine only. A path is for gateways.
    Twilio's documentation calls the URL that ends in ``/v2`` the base URL; the client adds ``/v2`` itself.
    """
    parts, host = _split(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains credentials; use username and password_file instead")
    if parts.query or parts.fragment or "?" in str(value) or "#" in str(value):
        raise ValueError('has a query or a fragment; write scheme, host and path only, such as "https://host"')
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "would send the password unencrypted to another machine; use https "
            "(http is accepted for localhost, 127.0.0.1 and ::1 only)"
        )
    if _is_twilio(host) and not host.startswith("verify."):
        raise ValueError('is a host of Twilio, but not of the Verify API; write "https://verify.twilio.com"')
    if (found := _API_PATH.search(parts.path)) is not None:
        url = f"{parts.scheme}://{parts.netloc}{parts.path[: found.start()]}"
        raise ValueError(f'includes "/v2", which the exporter adds itself; write "{url}"')
    return str(value).rstrip("/")


def parse_token_url(value: object) -> str:
    """Return the URL of a token endpoint; never quotes one that may contain credentials.

    Every token request carries the client secret, so plain HTTP is accepted for this machine only (RFC 6749 §3.2).
    """
    parts, host = _split(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains credentials; use client_id and client_secret_file instead")
    if parts.query or parts.fragment or "?" in str(value) or "#" in str(value):
        raise ValueError(
            'has a query or a fragment; write scheme, host and path only, such as "https://host/token"'
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "would send the client secret unencrypted to another machine; use https "
            "(http is accepted for localhost, 127.0.0.1 and ::1 only)"
        )
    if _is_twilio(host) and (not host.startswith("oauth.") or parts.path != _TOKEN_PATH):
        raise ValueError(
            f'is a URL of Twilio, but not of its token endpoint; write "https://oauth.twilio.com{_TOKEN_PATH}"'
        )
    return str(value)


def _is_twilio(host: str) -> bool:
    return f".{host.rstrip('.')}".endswith(".twilio.com")


def parse_source_url(value: object) -> str:
    """Return the URL of a watchlist; never quotes it, because its query may be a signature.

    Every answer holds identities, so plain HTTP is accepted for this machine only.
    """
    parts, host = _split(value)
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains credentials; use bearer_token_file, or username and password_file, instead")
    if "#" in str(value):
        raise ValueError("has a fragment, which is never sent; remove it")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "would send identities unencrypted; use https (http is accepted for localhost, 127.0.0.1 and ::1 only)"
        )
    return str(value)


def parse_proxy_url(value: object) -> str | None:
    """Return a proxy's URL, or None for an empty string; never quotes it, because it may contain credentials."""
    if value == "":
        return None
    if isinstance(value, str) and "://" not in value and _URL_TEXT.fullmatch(value):
        raise ValueError('has no scheme; write it like "http://host:port"')
    parts, _host = _split(value)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError('has a path, a query or a fragment; write it like "http://host:port"')
    return str(value)


def parse_link_table(value: object) -> dict[str, object]:
    """Return a table of links; its names and templates are parsed later."""
    return value if isinstance(value, dict) else wrong_kind(value, "a table", 'write { name = "https://…" }')


def parse_link_name(name: str) -> str:
    """Return the name of a link, which is its text on pages: 1 to 40 characters."""
    if not name.strip() or len(name) > _LONGEST_LINK_NAME:
        raise ValueError(
            f"is no name for a link: it has 1 to {_LONGEST_LINK_NAME} characters, not only white space"
        )
    check_printable(name)
    return name


def parse_link_template(value: object) -> str:
    """Return the URL template of a link; never quotes one that may contain credentials.

    Values from the watchlist replace the placeholders, so none may decide on the scheme or the host.
    """
    if not isinstance(value, str):
        wrong_kind(value, 'a URL such as "https://grafana.example.com/d/factor?var-factor={factor}"')
    for name in LINK_PLACEHOLDER.findall(value):
        if name not in LINK_PLACEHOLDERS and not _LABEL_PLACEHOLDER.fullmatch(name):
            raise ValueError(_unknown_placeholder(name))
    without = LINK_PLACEHOLDER.sub("0", value)
    if "{" in without or "}" in without:
        raise ValueError(
            f"has a brace that is no placeholder ({_KNOWN_PLACEHOLDERS}); write %7B for {{, %7D for }}"
        )
    if "{" in re.split(r"[/?#\\]", value.partition("//")[2], maxsplit=1)[0]:
        raise ValueError("has a placeholder in its host or port; use placeholders in path, query and fragment only")
    parts, _host = _split(without)
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains credentials, which pages would show; remove them")
    return value


def _unknown_placeholder(name: str) -> str:
    if name.casefold() == "identity":
        return (
            f"uses {{identity}}, which is never available: pages show no identity; known are {_KNOWN_PLACEHOLDERS}"
        )
    similar = nearest(name, (*LINK_PLACEHOLDERS, "label.NAME"))
    hint = f"; did you mean {{{similar}}}?" if similar else ""
    return f"has an unknown placeholder {quote(f'{{{name}}}')}; known are {_KNOWN_PLACEHOLDERS}{hint}"


def _split(value: object) -> tuple[SplitResult, str]:
    if not isinstance(value, str):
        wrong_kind(value, 'a URL such as "https://host"')
    if not _URL_TEXT.fullmatch(value):
        raise ValueError('is empty, or contains white space or non-ASCII characters; write it like "https://host"')
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError('is not a URL such as "https://host" or "https://host:443"') from None
    if parts.scheme not in {"https", "http"}:
        raise ValueError('does not start with "https://" (or "http://")')
    if not host or port == 0:
        raise ValueError('has no host, or port 0; write it like "https://host" or "https://host:443"')
    return parts, host
