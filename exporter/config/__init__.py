"""Configuration: one file, environment variables over it, flags over both; whole and valid, or refused."""

from exporter.config.addresses import ListenAddress
from exporter.config.errors import ConfigError, ConfigWarning, ErrorDetail
from exporter.config.kinds import IdentityLabel, LogFormat, LogLevel
from exporter.config.loader import Config, current_digest, current_referenced_digest, load
from exporter.config.secrets import PasswordSource
from exporter.config.settings import AccountSettings, Settings

__all__ = [
    "AccountSettings",
    "Config",
    "ConfigError",
    "ConfigWarning",
    "ErrorDetail",
    "IdentityLabel",
    "ListenAddress",
    "LogFormat",
    "LogLevel",
    "PasswordSource",
    "Settings",
    "current_digest",
    "current_referenced_digest",
    "load",
]
