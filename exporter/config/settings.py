"""The settings: every key of the configuration, with its kind, default and description.

File, environment variables, flags and docs/configuration.md are all derived from these models.
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
from exporter.watched import FACTOR_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_PORT = 10069


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class WebSettings(_Table):
    """The HTTP server."""

    listen_address: Annotated[kinds.ListenAddresses, Flag("--web.listen-address", "ADDRESS", repeatable=True)] = (
        Field(
            (ListenAddress(None, DEFAULT_PORT),),
            description="Address to listen on, or a list of addresses; `:10069` is every IPv4 and IPv6 address. "
            "The flag may be repeated.",
        )
    )
    telemetry_path: Annotated[kinds.TelemetryPath, Flag("--web.telemetry-path", "PATH")] = Field(
        "/metrics", description="Path of the metrics."
    )
    health_listen_address: kinds.OptionalListenAddress = Field(
        None,
        description="Second address, which serves only `/-/healthy` and `/-/ready`: for health probes where "
        "the main address requires a client certificate.",
    )
    config_file: Annotated[kinds.OptionalPath, Flag("--web.config.file", "FILE")] = Field(
        None,
        description="Web config file (TLS, passwords, headers) in the format of Prometheus's exporter-toolkit. "
        "See [web-config.md](web-config.md).",
    )
    enable_lifecycle: kinds.Switch = Field(False, description="Enable `POST /-/reload` and `PUT /-/log-level`.")
    enable_probe: kinds.Switch = Field(
        False, description="Enable `GET /probe`, which fetches one watched factor on demand."
    )
    allowed_hosts: kinds.HostNames = Field(
        (),
        description="Host names by which `/probe`, `/-/reload` and `/-/log-level` may be requested, without port. "
        "IP addresses, `localhost` and names below it are always allowed. See [security.md](security.md).",
    )
    external_links: kinds.LinkTemplates = Field(
        {},
        description="Links that pages show for every factor: name = URL template. See "
        "[operations.md](operations.md#link-to-other-systems).",
    )


class LogSettings(_Table):
    """The exporter's own log."""

    level: Annotated[kinds.Level, Flag("--log.level", "LEVEL")] = Field(
        LogLevel.INFO, description="Minimum level of logged messages: `debug`, `info`, `warning` or `error`."
    )
    format: Annotated[kinds.Format, Flag("--log.format", "FORMAT")] = Field(
        LogFormat.LOGFMT, description="Format of log lines: `logfmt` or `json`."
    )


class PollingSettings(_Table):
    """How often the API is polled, and how long an answer is valid."""

    interval: kinds.Interval = Field(
        300.0, description="Time between two fetches of a factor. A watchlist entry may override it."
    )
    unverified_interval: kinds.Interval = Field(
        60.0,
        description="Time between two fetches of a factor during its `unverified_window` "
        "and for 15 minutes after it was first not found; at most the factor's `interval`.",
    )
    unverified_window: kinds.Duration = Field(
        3600.0, description="How long `unverified_interval` applies after a factor was first seen unverified."
    )
    not_found_interval: kinds.Interval = Field(
        900.0,
        description="Time between two fetches of a factor that the API has not found for 15 minutes, or whose "
        "response can't be used; at least the factor's `interval`.",
    )
    discovery_interval: kinds.Interval = Field(
        900.0,
        description="Time between two listings of an entity's factors or a service's entities, and between two "
        "requests for a service of which a factor is not found.",
    )
    forget_after: kinds.Duration = Field(
        86400.0,
        description="How long a discovered factor that no longer exists stays in the metrics, as not found, and "
        "how long what was known of a removed factor is kept.",
    )
    timeout: kinds.Timeout = Field(
        10.0, description="Time limit for one attempt, from connecting to the last byte of the response."
    )
    max_attempts: kinds.CountFromOne = Field(3, description="Attempts per fetch, the first one included.")
    stale_after: kinds.CountFromTwo = Field(
        3,
        description="Number of intervals without a definite answer after which a status is withdrawn; at least 2.",
    )
    shutdown_timeout: kinds.Duration = Field(
        8.0, description="Time that in-flight requests have to finish when the exporter shuts down."
    )


class OAuthSettings(_Table):
    """An account's OAuth app: its access tokens are used instead of a password."""

    client_id: kinds.ClientId = Field(repr=False, description="Client ID of the OAuth app (OQ…).")
    client_secret: kinds.Password = Field(
        None, repr=False, description="Client secret of the OAuth app. Prefer `client_secret_file`."
    )
    client_secret_file: kinds.OptionalPath = Field(
        None,
        description="File that contains the client secret; one trailing line break is ignored. "
        "Exactly one of `client_secret` and `client_secret_file` must be set.",
    )
    token_url: kinds.TokenUrl = Field(
        "https://oauth.twilio.com/v2/token",
        description="URL of the token endpoint: https, or http on this machine (a simulator). "
        "`proxy_url` and `ca_file` of the account apply to it, too.",
    )


class AccountSettings(_Table):
    """One set of credentials, with its own budget."""

    account_sid: kinds.AccountSid = Field(description="Account SID: AC and 32 hex digits.")
    username: kinds.Username = Field(
        None,
        description="User name for authentication: the SID of an API key (SK…). Default: the Account SID. "
        "Not allowed with `oauth`.",
    )
    password: kinds.Password = Field(
        None, repr=False, description="API key secret or auth token. Prefer `password_file`."
    )
    password_file: kinds.OptionalPath = Field(
        None,
        description="File that contains the API key secret or auth token; one trailing line break is ignored. "
        "Exactly one of `password`, `password_file` and the table `oauth` must be set.",
    )
    oauth: OAuthSettings | None = None
    base_url: kinds.BaseUrl = Field(
        "https://verify.twilio.com",
        description="URL of the Verify API without `/v2`: https, or http on this machine (a simulator). "
        "A path is for gateways.",
    )
    max_concurrency: kinds.CountFromOne = Field(4, description="Maximum number of requests in flight.")
    requests_per_second: kinds.Rate = Field(10.0, description="Maximum number of requests per second.")
    proxy_url: kinds.ProxyUrl = Field(
        None,
        repr=False,
        description="HTTP proxy for requests to the API. Default: `HTTPS_PROXY` and `NO_PROXY` apply.",
    )
    ca_file: kinds.OptionalPath = Field(
        None, description="PEM file with the certificate authorities to trust instead of the default ones."
    )

    @property
    def secret_file(self) -> Path | None:
        """The file with the password or the client secret, if the secret is in a file."""
        return self.password_file if self.oauth is None else self.oauth.client_secret_file

    @property
    def user(self) -> str:
        """The user name for authentication: an API key's SID, or else the Account SID."""
        return self.username or self.account_sid


class FactorEntry(_Table):
    """One factor to watch; here or in a watchlist file."""

    name: kinds.OptionalName = Field(
        None,
        repr=False,
        description="Name shown in metrics, pages and log lines, so never a person's name; 1 to 128 characters, "
        "unique within account and service. Default: the factor SID.",
    )
    account: kinds.OptionalAccount = Field(None, description="Name of the account. Default: the only account.")
    service_sid: kinds.ServiceSid = Field(description="Verify Service SID: VA and 32 hex digits.")
    identity: kinds.Identity = Field(
        repr=False,
        description='Identity of the entity that owns the factor: 8 to 64 letters, digits and "-". '
        "Treated as personal data.",
    )
    factor_sid: kinds.FactorSid = Field(description="Factor SID: YF and 32 hex digits.")
    interval: kinds.OptionalInterval = Field(
        None, description="Time between two fetches. Default: `polling.interval`."
    )
    paused: kinds.Switch = Field(False, description="Don't fetch the factor; show only its info metric.")
    labels: kinds.Labels = Field({}, repr=False, description="Labels for every series of this factor.")


class EntityEntry(_Table):
    """One entity whose factors are all watched."""

    name: kinds.Name = Field(repr=False, description="Prefix of the names of its factors; never a person's name.")
    account: kinds.OptionalAccount = Field(None, description="Name of the account. Default: the only account.")
    service_sid: kinds.ServiceSid = Field(description="Verify Service SID: VA and 32 hex digits.")
    identity: kinds.Identity = Field(
        repr=False, description='Identity of the entity: 8 to 64 letters, digits and "-".'
    )
    labels: kinds.Labels = Field({}, repr=False, description="Labels for every series of the entity's factors.")


class ServiceEntry(_Table):
    """One service of which every factor of every entity is watched; in the configuration file only."""

    name: kinds.Name = Field(repr=False, description="Prefix of the names of its factors and entities.")
    account: kinds.OptionalAccount = Field(None, description="Name of the account. Default: the only account.")
    service_sid: kinds.ServiceSid = Field(description="Verify Service SID: VA and 32 hex digits.")
    factor_types: kinds.FactorTypes = Field(
        FACTOR_TYPES,
        description="Types of the factors to watch. By default, a type that Twilio adds later is watched, too.",
    )
    max_entities: kinds.CountFromOne = Field(
        10_000,
        description="Maximum number of entities to watch. A listing of the service ends there, and an alert fires.",
    )
    labels: kinds.Labels = Field({}, repr=False, description="Labels for every series of the service's factors.")


class HttpSourceEntry(_Table):
    """One URL that answers with more factors and entities to watch."""

    name: kinds.Name = Field(description="Name shown in metrics, log lines and on pages; unique.")
    url: kinds.SourceUrl = Field(
        repr=False,
        description="URL of the watchlist: https, or http on this machine. Redirects are not followed, and no "
        "proxy is used. Only `/config` shows it, without its query.",
    )
    refresh_interval: kinds.Interval = Field(60.0, description="Time between two requests.")
    timeout: kinds.Timeout = Field(
        10.0, description="Time limit for one request, from connecting to the last byte of the answer."
    )
    bearer_token_file: kinds.OptionalPath = Field(
        None,
        description="File that contains a token, sent as `Authorization: Bearer`; read again for every request.",
    )
    username: kinds.UserName = Field("", description="User name for basic authentication.")
    password_file: kinds.OptionalPath = Field(
        None, description="File that contains the password for `username`; read again for every request."
    )
    ca_file: kinds.OptionalPath = Field(
        None, description="PEM file with the certificate authorities to trust instead of the default ones."
    )


class WatchlistSettings(_Table):
    """Files and URLs that list more factors and entities to watch."""

    files: kinds.FilePatterns = Field(
        (),
        description="TOML and CSV files, relative to the configuration file; patterns may use `*`, `?`, `[…]` "
        "and `**`.",
    )
    allow_empty: kinds.Switch = Field(
        False,
        description="Allow a reload to remove the last entry of an account, or of the whole watchlist, a start "
        "on watchlist files that no longer list anything, and an empty answer of a URL that listed something. "
        "Without a state file, a start always may.",
    )


class MetricsSettings(_Table):
    """What the metrics show."""

    identity: kinds.IdentityChoice = Field(
        IdentityLabel.NONE,
        description="The `identity` label of `twilio_verify_factor_info`: `none`, `hmac` (hex HMAC-SHA256) "
        "or `plain`.",
    )
    identity_key_file: kinds.OptionalPath = Field(
        None,
        description="File that contains the key for `hmac`: at least 32 bytes; one trailing line break is ignored.",
    )
    factor_families: kinds.FamilyPatterns = Field(
        ("*",),
        description="Per-factor metrics to expose: short names such as `verified`, or patterns; "
        "`[]` exposes aggregates only.",
    )


class StateSettings(_Table):
    """State that survives a restart."""

    file: kinds.OptionalPath = Field(
        None,
        description="File that saves the status of every factor, with its age. The last good watchlist is saved in "
        "the same directory.",
    )


class ShardingSettings(_Table):
    """Several exporters that share one watchlist."""

    shard: Annotated[kinds.Shard, Flag("--shard", "I/N")] = Field(
        "0/1",
        description="This process's part of the watchlist, as ordinal/count, starting at 0; "
        "`auto/4` takes the ordinal from the pod's name.",
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

        Its own reader of variables ignores misspelt ones, and its TOML reader reports no line numbers.
        """
        given = cast("InitSettingsSource", init_settings).init_kwargs.get("sources", ())
        return cast("tuple[PydanticBaseSettingsSource, ...]", given)

    @classmethod
    def from_sources(cls, *sources: PydanticBaseSettingsSource) -> Self:
        """Return the settings merged from these sources; the first has the highest precedence."""
        arguments: dict[str, Any] = {"sources": sources}
        return cls(**arguments)


ENTRIES: Mapping[str, type[BaseModel]] = MappingProxyType(
    {"factors": FactorEntry, "entities": EntityEntry, "services": ServiceEntry}
)
"""The arrays of tables that list what is watched; they are no settings."""

WATCHLIST_ARRAYS = ("factors", "entities")
"""The arrays of tables that a file of the watchlist may have."""
