"""The kinds of values: how each is checked, read from text, written as TOML and documented."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr

from exporter.config import addresses, values
from exporter.config.addresses import ListenAddress
from exporter.config.errors import InvalidValueError
from exporter.watched import FACTOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable


class LogLevel(StrEnum):
    """The least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line is written."""

    LOGFMT = "logfmt"
    JSON = "json"


class IdentityLabel(StrEnum):
    """How the info metric of a factor shows the identity."""

    NONE = "none"
    HMAC = "hmac"
    PLAIN = "plain"


def _as_text(text: str) -> object:
    return text


def _in_quotes(value: object) -> str:
    return f'"{value or ""}"'


def _listed(value: object) -> str:
    texts = [_in_quotes(item) for item in value] if isinstance(value, tuple) else []
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of value: its name in the documentation, and how it is read from text and written as TOML.

    ``optional`` means that an empty string stands for "none".
    """

    title: str
    from_text: Callable[[str], object] = _as_text
    to_toml: Callable[[Any], str] = _in_quotes
    secret: bool = False
    path: bool = False
    files_only: bool = False
    table: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """The command-line flag of ``run`` that sets a key; ``value`` is the placeholder in its help."""

    name: str
    value: str
    repeatable: bool = False


def _whole_from_text(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        return int(text)
    raise InvalidValueError(text, "is not a whole number")


def _rate_from_text(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidValueError(text, "is not a number") from None


def _one_listen_address(text: str) -> str:
    if "," in text:
        raise ValueError("takes one address; set a list in the configuration file, or repeat the flag")
    return text


def _secret_from_text(text: str) -> SecretStr:
    return SecretStr(text)


def _password(value: object) -> SecretStr:
    return SecretStr(values.parse_credential(_revealed(value)))


def _proxy(value: object) -> SecretStr | None:
    address = addresses.parse_proxy_url(_revealed(value))
    return None if address is None else SecretStr(address)


def _revealed(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _optional_path(value: object) -> Path | None:
    text = values.parse_path(value)
    return Path(text) if text else None


def _flag_in_toml(value: bool) -> str:
    return "true" if value else "false"


def _duration_in_toml(seconds: float | None) -> str:
    return _in_quotes("" if seconds is None else values.format_duration(seconds))


def _list_in_toml(value: tuple[str, ...]) -> str:
    return f"[{', '.join(_in_quotes(item) for item in value)}]"


def _table_in_toml(_value: object) -> str:
    return "{}"


_DURATION = ValueKind("duration", to_toml=_duration_in_toml)
_SID = ValueKind("SID")
_PATH = ValueKind("path", path=True, optional=True)

Text = Annotated[str, BeforeValidator(values.parse_text), ValueKind("string")]
UserName = Annotated[str, BeforeValidator(values.parse_user_name), ValueKind("string", optional=True)]
Name = Annotated[str, BeforeValidator(values.parse_name), ValueKind("name")]
OptionalName = Annotated[str | None, BeforeValidator(values.parse_name), ValueKind("name")]
OptionalAccount = Annotated[str | None, BeforeValidator(values.parse_account_name), ValueKind("account name")]
AccountName = Annotated[str, BeforeValidator(values.parse_account_name)]
Duration = Annotated[float, BeforeValidator(values.parse_duration), _DURATION]
Interval = Annotated[float, BeforeValidator(values.parse_interval), _DURATION]
OptionalInterval = Annotated[float | None, BeforeValidator(values.parse_interval), _DURATION]
Timeout = Annotated[float, BeforeValidator(values.parse_timeout), _DURATION]
Switch = Annotated[
    bool, BeforeValidator(values.parse_flag), ValueKind("true or false", values.flag_from_text, _flag_in_toml)
]
_WHOLE = ValueKind("whole number", _whole_from_text, str)
CountFromOne = Annotated[int, BeforeValidator(functools.partial(values.at_least, 1)), _WHOLE]
CountFromTwo = Annotated[int, BeforeValidator(functools.partial(values.at_least, 2)), _WHOLE]
Rate = Annotated[float, BeforeValidator(values.parse_rate), ValueKind("number", _rate_from_text, "{:g}".format)]
ServiceSid = Annotated[str, BeforeValidator(values.parse_service_sid), _SID]
FactorSid = Annotated[str, BeforeValidator(values.parse_factor_sid), _SID]
AccountSid = Annotated[str, BeforeValidator(values.parse_account_sid), _SID]
Username = Annotated[str | None, BeforeValidator(values.parse_username), _SID]
Identity = Annotated[str, BeforeValidator(values.parse_identity), ValueKind("identity")]
Labels = Annotated[
    dict[
        Annotated[str, BeforeValidator(values.parse_label_name)],
        Annotated[str, BeforeValidator(values.parse_label_value)],
    ],
    BeforeValidator(values.parse_label_table),
    AfterValidator(values.without_empty),
    ValueKind("table of strings", to_toml=_table_in_toml),
]
Password = Annotated[
    SecretStr | None, BeforeValidator(_password), ValueKind("secret", _secret_from_text, secret=True)
]
ProxyUrl = Annotated[
    SecretStr | None, BeforeValidator(_proxy), ValueKind("URL", _secret_from_text, secret=True, optional=True)
]
ClientId = Annotated[str, BeforeValidator(values.parse_client_id), ValueKind("string")]
TokenUrl = Annotated[str, BeforeValidator(addresses.parse_token_url), ValueKind("URL")]
BaseUrl = Annotated[str, BeforeValidator(addresses.parse_base_url), ValueKind("URL")]
SourceUrl = Annotated[str, BeforeValidator(addresses.parse_source_url), ValueKind("URL")]
OptionalPath = Annotated[Path | None, BeforeValidator(_optional_path), _PATH]
TelemetryPath = Annotated[str, BeforeValidator(values.parse_telemetry_path), ValueKind("URL path")]
Shard = Annotated[str, BeforeValidator(values.parse_shard), ValueKind("shard")]
ListenAddresses = Annotated[
    tuple[Annotated[ListenAddress, BeforeValidator(addresses.parse_listen_address)], ...],
    BeforeValidator(addresses.listen_address_list),
    AfterValidator(addresses.check_different),
    ValueKind("address or list of addresses", _one_listen_address, _listed),
]
OptionalListenAddress = Annotated[
    ListenAddress | None,
    BeforeValidator(addresses.parse_optional_listen_address),
    ValueKind("address", optional=True),
]
HostNames = Annotated[
    tuple[Annotated[str, BeforeValidator(addresses.parse_host_name)], ...],
    BeforeValidator(functools.partial(values.parse_list, '["exporter.example.com"]')),
    AfterValidator(addresses.check_different_names),
    ValueKind("list of host names", to_toml=_list_in_toml, files_only=True),
]
LinkTemplates = Annotated[
    dict[
        Annotated[str, BeforeValidator(addresses.parse_link_name)],
        Annotated[str, BeforeValidator(addresses.parse_link_template)],
    ],
    BeforeValidator(addresses.parse_link_table),
    ValueKind("table of URL templates", to_toml=_table_in_toml, files_only=True, table=True),
]
FilePatterns = Annotated[
    tuple[Annotated[str, BeforeValidator(values.parse_file_pattern)], ...],
    BeforeValidator(functools.partial(values.parse_list, '["watchlist.csv"]')),
    ValueKind("list of paths", to_toml=_list_in_toml, files_only=True),
]
FamilyPatterns = Annotated[
    tuple[Annotated[str, BeforeValidator(values.parse_family_pattern)], ...],
    BeforeValidator(functools.partial(values.parse_list, '["*"]')),
    ValueKind("list of names or patterns", to_toml=_list_in_toml, files_only=True),
]
FactorTypes = Annotated[
    tuple[Annotated[str, BeforeValidator(functools.partial(values.one_of, FACTOR_TYPES))], ...],
    BeforeValidator(functools.partial(values.parse_list, '["totp"]')),
    AfterValidator(values.check_choices),
    ValueKind("list of factor types", to_toml=_list_in_toml, files_only=True),
]
Level = Annotated[
    LogLevel, BeforeValidator(lambda value: LogLevel(values.one_of(LogLevel, value))), ValueKind("word")
]
Format = Annotated[
    LogFormat, BeforeValidator(lambda value: LogFormat(values.one_of(LogFormat, value))), ValueKind("word")
]
IdentityChoice = Annotated[
    IdentityLabel,
    BeforeValidator(lambda value: IdentityLabel(values.one_of(IdentityLabel, value))),
    ValueKind("word"),
]
