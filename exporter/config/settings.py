"""The settings tree: every key of the configuration, with its kind, its default and its meaning.

File, environment, flags and docs/configuration.md are all read off this one tree.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from exporter.config import kinds  # noqa: TC001  # pydantic reads the annotations
from exporter.config.addresses import ListenAddress
from exporter.config.kinds import Flag, IdentityLabel, LogFormat, LogLevel

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PORT = 10069


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class WebSettings(_Table):
    """The HTTP server."""

    listen_address: Annotated[kinds.ListenAddresses, Flag("--web.listen-address", "ADDRESS", repeatable=True)] = (
        Field(
            (ListenAddress(None, DEFAULT_PORT),),
            description="Where to listen: `:10069` is every address, IPv4 and IPv6. A list is allowed, "
            "and the flag may be repeated.",
        )
    )
    telemetry_path: Annotated[kinds.TelemetryPath, Flag("--web.telemetry-path", "PATH")] = Field(
        "/metrics", description="Path of the metrics."
    )
    health_listen_address: kinds.OptionalListenAddress = Field(
        None,
        description="Second address that serves `/-/healthy` and `/-/ready` only, "
        "for probes where the first one asks for a client certificate.",
    )
    config_file: Annotated[kinds.OptionalPath, Flag("--web.config.file", "FILE")] = Field(
        None,
        description="Web config file (TLS, passwords, headers) in the format of Prometheus' exporter-toolkit. "
        "See [web-config.md](web-config.md).",
    )
    enable_lifecycle: kinds.Switch = Field(False, description="Answer `POST /-/reload` and `PUT /-/log-level`.")
    enable_probe: kinds.Switch = Field(
        False, description="Answer `GET /probe`, which fetches one watched factor at once."
    )


class LogSettings(_Table):
    """The exporter's own log."""

    level: Annotated[kinds.Level, Flag("--log.level", "LEVEL")] = Field(
        LogLevel.INFO, description="Least severe level that is logged: `debug`, `info`, `warning` or `error`."
    )
    format: Annotated[kinds.Format, Flag("--log.format", "FORMAT")] = Field(
        LogFormat.LOGFMT, description="How a line is written: `logfmt` or `json`."
    )


class PollingSettings(_Table):
    """How often the API is asked, and for how long an answer holds."""

    interval: kinds.Interval = Field(
        300.0, description="Time between two fetches of a factor. An entry of the watchlist may set its own."
    )
    unverified_interval: kinds.Interval = Field(
        60.0,
        description="Time between two fetches of an unverified factor while `unverified_window` lasts; "
        "never longer than the factor's `interval`.",
    )
    unverified_window: kinds.Duration = Field(
        3600.0, description="How long after it was first seen unverified a factor is fetched that often."
    )
    not_found_interval: kinds.Interval = Field(
        900.0,
        description="Time between two fetches of a factor that the API doesn't know, or whose answer "
        "can't be used; never shorter than the factor's `interval`.",
    )
    discovery_interval: kinds.Interval = Field(
        900.0, description="Time between two listings of an entity's factors."
    )
    forget_after: kinds.Duration = Field(
        86400.0, description="How long a discovered factor that is gone stays in the metrics, as not found."
    )
    timeout: kinds.Timeout = Field(
        10.0, description="Time for one attempt as a whole, from connecting to the last byte of the answer."
    )
    max_attempts: kinds.CountFromOne = Field(3, description="Attempts a fetch makes before it counts as failed.")
    stale_after: kinds.CountFromTwo = Field(
        3, description="Intervals without a definite answer after which a status is withdrawn; at least 2."
    )
    shutdown_timeout: kinds.Duration = Field(
        8.0, description="How long requests under way may take to finish once the exporter is told to stop."
    )


class AccountSettings(_Table):
    """One set of credentials, with its own budget."""

    account_sid: kinds.AccountSid = Field(description="Account SID: AC and 32 hex digits.")
    username: kinds.Username = Field(
        None, description="User name of the requests: the SID of an API key (SK…). Default: the Account SID."
    )
    password: kinds.Password = Field(
        None, repr=False, description="API key secret or auth token itself. Prefer `password_file`."
    )
    password_file: kinds.OptionalPath = Field(
        None,
        description="File that holds the API key secret or auth token; one line break at its end is ignored. "
        "Exactly one of `password` and `password_file` must be set.",
    )
    base_url: kinds.BaseUrl = Field(
        "https://verify.twilio.com",
        description="Address of the Verify API: https, or http on this machine (a simulator).",
    )
    max_concurrency: kinds.CountFromOne = Field(4, description="Requests under way at one time, at most.")
    requests_per_second: kinds.Rate = Field(10.0, description="Requests begun in a second, at most.")
    proxy_url: kinds.ProxyUrl = Field(
        None,
        repr=False,
        description="HTTP proxy to reach the API through; else `HTTPS_PROXY` and `NO_PROXY` apply.",
    )
    ca_file: kinds.OptionalPath = Field(
        None, description="PEM file with the certificate authorities to trust instead of the usual ones."
    )

    @property
    def user(self) -> str:
        """The user name in force: an API key's SID, or the account's."""
        return self.username or self.account_sid


class FactorEntry(_Table):
    """One factor to watch; here or in a file of the watchlist."""

    name: kinds.OptionalName = Field(
        None,
        repr=False,
        description="Name on every metric, page and log line, so never a person's; 1 to 128 characters, "
        "unique within account and service. Default: the factor SID.",
    )
    account: kinds.OptionalAccount = Field(
        None, description="Name of the account's table. Default: the only account."
    )
    service_sid: kinds.ServiceSid = Field(description="Verify Service SID: VA and 32 hex digits.")
    identity: kinds.Identity = Field(
        repr=False,
        description='Identity of the entity that the factor belongs to: 8 to 64 letters, digits and "-". '
        "Treated as personal data.",
    )
    factor_sid: kinds.FactorSid = Field(description="Factor SID: YF and 32 hex digits.")
    interval: kinds.OptionalInterval = Field(
        None, description="Time between two fetches. Default: `polling.interval`."
    )
    paused: kinds.Switch = Field(False, description="Listed but not fetched; only its info metric is shown.")
    labels: kinds.Labels = Field({}, repr=False, description="Labels on every series of this factor.")


class EntityEntry(_Table):
    """One entity whose factors are all watched."""

    name: kinds.Name = Field(
        repr=False, description="Name that the names of its factors begin with; never a person's."
    )
    account: kinds.OptionalAccount = Field(
        None, description="Name of the account's table. Default: the only account."
    )
    service_sid: kinds.ServiceSid = Field(description="Verify Service SID: VA and 32 hex digits.")
    identity: kinds.Identity = Field(
        repr=False, description='The entity\'s identity: 8 to 64 letters, digits and "-".'
    )
    labels: kinds.Labels = Field({}, repr=False, description="Labels on every series of the entity's factors.")


class WatchlistSettings(_Table):
    """Files that list more factors to watch."""

    files: kinds.FilePatterns = Field(
        (),
        description="TOML and CSV files, relative to this file; `*`, `?`, `[…]` and `**` make a pattern.",
    )


class MetricsSettings(_Table):
    """What the metrics show."""

    identity: kinds.IdentityChoice = Field(
        IdentityLabel.NONE,
        description="The identity on `twilio_verify_factor_info`: `none`, `hmac` (hex HMAC-SHA256) or `plain`.",
    )
    identity_key_file: kinds.OptionalPath = Field(
        None,
        description="Key for `hmac`: a file of at least 32 bytes; one line break at its end is ignored.",
    )
    factor_families: kinds.FamilyPatterns = Field(
        ("*",),
        description="Which per-factor metrics are shown: short names such as `verified`, or patterns; "
        "`[]` shows aggregates only.",
    )


class StateSettings(_Table):
    """What outlives a restart."""

    file: kinds.OptionalPath = Field(
        None, description="File that keeps what is known of the factors, with its age."
    )


class ShardingSettings(_Table):
    """Several exporters that share one watchlist."""

    shard: Annotated[kinds.Shard, Flag("--shard", "I/N")] = Field(
        "0/1",
        description="This process's part of the watchlist: ordinal/count, the first is 0; "
        "`auto/4` takes the ordinal of four from the pod's name.",
    )


class Settings(BaseSettings):
    """Every setting, after flags, environment variables and file were merged over the defaults."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    polling: PollingSettings = PollingSettings()
    accounts: dict[kinds.AccountName, AccountSettings] = {}
    watchlist: WatchlistSettings = WatchlistSettings()
    metrics: MetricsSettings = MetricsSettings()
    state: StateSettings = StateSettings()
    sharding: ShardingSettings = ShardingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources given to :meth:`from_sources`, in place of those of pydantic-settings.

        Its own reader of variables ignores misspelt ones, and its TOML reader knows no places.
        """
        given = cast("InitSettingsSource", init_settings).init_kwargs.get("sources", ())
        return cast("tuple[PydanticBaseSettingsSource, ...]", given)

    @classmethod
    def from_sources(cls, *sources: PydanticBaseSettingsSource) -> Self:
        """Return the settings merged from these sources; the first has the highest precedence."""
        arguments: dict[str, Any] = {"sources": sources}
        return cls(**arguments)


ENTRIES: Mapping[str, type[BaseModel]] = MappingProxyType({"factors": FactorEntry, "entities": EntityEntry})
"""The arrays of tables that list what is watched, here or in a file of the watchlist; they are no settings."""
