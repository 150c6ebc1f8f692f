"""Configuration: one file, environment variables over it, flags over both; whole and valid, or refused."""

from exporter.config.addresses import ListenAddress
from exporter.config.faults import ConfigError, Fault, Notice
from exporter.config.kinds import IdentityLabel, LogFormat, LogLevel
from exporter.config.loader import Config, current_aside_digest, current_digest, load
from exporter.config.secrets import PasswordSource
from exporter.config.settings import AccountSettings, Settings

__all__ = [
    "AccountSettings",
    "Config",
    "ConfigError",
    "Fault",
    "IdentityLabel",
    "ListenAddress",
    "LogFormat",
    "LogLevel",
    "Notice",
    "PasswordSource",
    "Settings",
    "current_aside_digest",
    "current_digest",
    "load",
]
