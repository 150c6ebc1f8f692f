"""The configuration: one file, overridden by environment variables and flags; valid as a whole, or refused.

:func:`load` builds a :class:`Config`, or raises :class:`ConfigError` with every error found:

1. ``files`` reads and parses config.toml.
2. ``sources`` take the values and their places from flags, environment variables and the file; pydantic-settings
   merges them into :class:`Settings`. ``settings`` lists the keys; ``kinds`` and ``values`` check the values.
3. ``checks`` read what keys refer to: passwords, certificate authorities, the HMAC key. ``webconfig`` reads the web
   config file.
4. ``watchlist`` reads the entries of config.toml and of the watchlist files, and ``http_source`` those that URLs
   answered; ``assembly`` puts them together; at a start, ``last_good`` stands in for files and URLs that can't be
   used; ``sharding`` keeps this shard's part.

``tomlsyntax`` and ``oddities`` name mistakes for what they are; ``lines`` finds their places in the files again,
and ``excerpt`` shows them.

:func:`with_answers` changes the answers of URLs alone. No request is sent here.

:func:`current_fingerprint` finds out later whether one of the files has changed. Exported besides these: the types
of a Config's parts, which the other packages use.
"""

from exporter.config.addresses import ListenAddress
from exporter.config.errors import ConfigError, ConfigWarning, ErrorDetail
from exporter.config.http_source import HttpSource, SourceAnswer, SourceFailure
from exporter.config.kinds import IdentityLabel, LogFormat, LogLevel
from exporter.config.loader import Config, current_fingerprint, load, with_answers
from exporter.config.reload_policy import reload_errors
from exporter.config.secrets import PasswordSource
from exporter.config.settings import AccountSettings, Settings

__all__ = [
    "AccountSettings",
    "Config",
    "ConfigError",
    "ConfigWarning",
    "ErrorDetail",
    "HttpSource",
    "IdentityLabel",
    "ListenAddress",
    "LogFormat",
    "LogLevel",
    "PasswordSource",
    "Settings",
    "SourceAnswer",
    "SourceFailure",
    "current_fingerprint",
    "load",
    "reload_errors",
    "with_answers",
]
