"""Builds the parts of an engine, or of a command, from a configuration, and compares two configurations."""

from __future__ import annotations

import functools
import hashlib
import hmac
import resource
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from exporter.config.errors import ConfigError, ErrorDetail
from exporter.config.kinds import IdentityLabel
from exporter.exposition.factors import FactorSamples, no_identity, shown_families
from exporter.logs.output import Redactor
from exporter.polling.account import AccountPolicy
from exporter.polling.ledger import LedgerPolicy
from exporter.polling.listing import DiscoveryPolicy
from exporter.polling.services import ServicePolicy
from exporter.polling.slices import READ, at_once, in_lists
from exporter.polling.token import AccessToken
from exporter.verify.client import VerifyClient
from exporter.verify.token import TokenClient
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import proxy_name, transport_to, usual_authorities
from exporter.web.server.limits import Limits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Container, Iterable

    import httpx

    from exporter.config.loader import Config
    from exporter.config.settings import AccountSettings, OAuthSettings
    from exporter.exposition.catalogue import FactorFamily
    from exporter.polling.slices import Slices
    from exporter.watched import WatchedFactor


class DefaultTransports:
    """Makes the transports that accounts use by default; the system's certificate authorities are read once."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    def __call__(self, account: AccountSettings) -> httpx.AsyncBaseTransport:
        """Return the transport of an account."""
        if self._context is None and account.ca_file is None:
            self._context = usual_authorities()
        return transport_to(
            base_url=account.base_url,
            max_connections=account.max_concurrency,
            ca_file=account.ca_file,
            proxy_url=account.proxy_url.get_secret_value() if account.proxy_url else "",
            context=self._context,
        )


def default_transport(account: AccountSettings) -> httpx.AsyncBaseTransport:
    """Return the default transport of one account."""
    return DefaultTransports()(account)


def client_of(
    config: Config,
    name: str,
    transport: Callable[[AccountSettings], httpx.AsyncBaseTransport] = default_transport,
    password: Callable[[], str] | None = None,
    token: AccessToken | None = None,
) -> VerifyClient:
    """Return the client of one account; raises ConfigError where its proxy or its certificates can't be used.

    ``password`` is called at every request; by default it reads the account's source in this configuration. An
    account with an OAuth app uses ``token`` instead, and ``password`` is its client secret. Must be called with an
    event loop running.
    """
    account = config.settings.accounts[name]
    source = config.passwords[name]
    secret = password or (lambda: source.current)
    try:
        inner, proxy = _way_to(account, transport)
        tokens = None if account.oauth is None else _token_client(config, account, account.oauth, transport, secret)
    except (ValueError, OSError) as error:
        raise ConfigError([ErrorDetail(f"accounts.{name}", str(error))]) from error
    used = token or AccessToken()
    return VerifyClient(
        base_url=account.base_url,
        username=account.user,
        password=secret,
        transport=BoundedTransport(inner, timeout_seconds=config.settings.polling.timeout),
        bearer=None if tokens is None else (lambda: used.value),
        tokens=tokens,
        proxy=proxy,
        listing_interval_seconds=config.settings.polling.discovery_interval,
    )


def _way_to(
    account: AccountSettings, transport: Callable[[AccountSettings], httpx.AsyncBaseTransport]
) -> tuple[httpx.AsyncBaseTransport, str]:
    """Return the transport to an account's API, and the name of the proxy on its way."""
    proxy = account.proxy_url.get_secret_value() if account.proxy_url else ""
    return transport(account), proxy_name(account.base_url, proxy)


def _token_client(
    config: Config,
    account: AccountSettings,
    oauth: OAuthSettings,
    transport: Callable[[AccountSettings], httpx.AsyncBaseTransport],
    secret: Callable[[], str],
) -> TokenClient:
    """Return the client of an account's token endpoint, which is reached as its API is."""
    endpoint = account.model_copy(update={"base_url": oauth.token_url, "max_concurrency": 1})
    inner, proxy = _way_to(endpoint, transport)
    return TokenClient(
        url=oauth.token_url,
        client_id=oauth.client_id,
        client_secret=secret,
        transport=BoundedTransport(inner, timeout_seconds=config.settings.polling.timeout),
        proxy=proxy,
    )


def same_connection(old: Config, new: Config, name: str) -> bool:
    """Return whether an account can keep its client under the new configuration."""
    before, after = old.settings.accounts.get(name), new.settings.accounts[name]
    return (
        before is not None
        and old.settings.polling.timeout == new.settings.polling.timeout
        and (after.ca_file is None or old.files.get(after.ca_file) == new.files.get(after.ca_file))
        and _endpoint(before) == _endpoint(after)
        and all(getattr(before, key) == getattr(after, key) for key in _OF_A_CLIENT)
    )


_OF_A_CLIENT = ("base_url", "user", "max_concurrency", "proxy_url", "ca_file")


def _endpoint(account: AccountSettings) -> tuple[str, ...]:
    """Return the token endpoint and the client ID of an account, empty without an OAuth app."""
    return () if account.oauth is None else (account.oauth.token_url, account.oauth.client_id)


def same_credentials(old: Config, new: Config, name: str) -> bool:
    """Return whether an account uses the same API as the same user or OAuth app, with the same secret."""
    return _credentials(old, name) == _credentials(new, name)


def _credentials(config: Config, name: str) -> tuple[str, ...]:
    account = config.settings.accounts[name]
    return account.base_url, account.user, config.passwords[name].current, *_endpoint(account)


def ledger_policy(config: Config) -> LedgerPolicy:
    """Return the policy of the ledger."""
    polling = config.settings.polling
    return LedgerPolicy(
        unverified_interval_seconds=polling.unverified_interval,
        unverified_window_seconds=polling.unverified_window,
        not_found_interval_seconds=polling.not_found_interval,
        stale_after=polling.stale_after,
    )


def account_policy(config: Config, name: str, *, one_shot: bool = False) -> AccountPolicy:
    """Return the settings that an account is polled by; ``one_shot`` for factors that are fetched only once."""
    account, polling = config.settings.accounts[name], config.settings.polling
    return AccountPolicy(
        requests_per_second=account.requests_per_second,
        max_concurrency=account.max_concurrency,
        max_attempts=polling.max_attempts,
        timeout_seconds=polling.timeout,
        one_shot=one_shot,
        oauth=account.oauth is not None,
    )


def discovery_policy(config: Config) -> DiscoveryPolicy:
    """Return the policy of discovery."""
    polling = config.settings.polling
    return DiscoveryPolicy(polling.discovery_interval, polling.forget_after)


def service_policy(config: Config) -> ServicePolicy:
    """Return the policy of Fetch Service."""
    polling = config.settings.polling
    return ServicePolicy(polling.discovery_interval, polling.stale_after)


def client_limits(config: Config) -> Limits:
    """Return the limits of the web server, by the limit of open files of this process."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return Limits()
    return Limits().within(open_files, sum(one.max_concurrency for one in config.settings.accounts.values()))


def factor_samples(config: Config, without: Container[FactorFamily] = ()) -> FactorSamples:
    """Return the families and labels of a factor's samples, without some families."""
    shown = shown_families(config.settings.metrics.factor_families)
    return FactorSamples(tuple(of for of in shown if of not in without), _identity_label(config))


def same_samples(old: Config, new: Config) -> bool:
    """Return whether factors have the same samples under both configurations."""
    return (old.settings.metrics, old.identity_key) == (new.settings.metrics, new.identity_key)


def _identity_label(config: Config) -> Callable[[WatchedFactor], str]:
    match config.settings.metrics.identity:
        case IdentityLabel.PLAIN:
            return lambda watched: watched.identity
        case IdentityLabel.HMAC:
            return functools.partial(_digest_of_identity, config.identity_key or b"")
    return no_identity


def _digest_of_identity(key: bytes, watched: WatchedFactor) -> str:
    """Return the HMAC of an identity, nothing while it is not known."""
    if not watched.identity:
        return ""
    return hmac.new(key, watched.identity.encode(), hashlib.sha256).hexdigest()


_TEXTS_PER_BUCKET = 32
_SHORTEST_QUERY = 16
"""The shortest query of a source's URL that may be a secret, such as a signature."""


class Confidential:
    """The secrets and identities that no output may show.

    Identities are those of the applied configuration and the one before it, as a fetch in flight during a reload
    may still be logged; passwords are those of all configurations. ``tokens`` returns the latest access tokens,
    and ``discovered`` tells whether a text is the identity of an entity that was found in a service.
    """

    def __init__(self, config: Config) -> None:
        self.tokens: Callable[[], Iterable[str]] = tuple
        self.redactor = Redactor(self._all_secrets, self._all_identities)
        self.discovered: Callable[[str], bool] = lambda _text: False
        self._passwords: set[str] = set()
        self._identities: tuple[_Texts, ...] = ()
        self.add(config)

    def add(self, config: Config) -> None:
        """Add the secrets and identities of a configuration."""
        at_once(self.adding(config))

    def adding(self, config: Config) -> Slices[None]:
        """Add the secrets and identities of a configuration as :meth:`add` does, in slices."""
        identities = _Texts(len(config.factors) + len(config.entities))
        for factors in in_lists(config.factors, READ):
            identities.add(factor.identity for factor in factors)
            yield len(factors) / READ
        for entities in in_lists(config.entities, READ):
            identities.add(entity.key.identity for entity in entities)
            yield len(entities) / READ
        self._config = config
        self._identities = (identities, *self._identities[:1])
        for account in config.settings.accounts.values():
            if account.proxy_url:
                url = account.proxy_url.get_secret_value()
                self._passwords |= {url, unquote(urlsplit(url).password or "")}
        for source in config.http:
            if len(query := urlsplit(source.url).query) >= _SHORTEST_QUERY:
                self._passwords |= {query, unquote(query)}
        self._all_secrets()

    def _all_secrets(self) -> set[str]:
        self._passwords.update(source.current for source in self._config.passwords.values())
        self._passwords.update(of.secret.current for of in self._config.http if of.secret is not None)
        return self._passwords.union(self.tokens())

    def _all_identities(self) -> _Either:
        return _Either(self._identities, self.discovered)


class _Texts:
    """A set of texts in small buckets: needs a fraction of a set's memory, and takes more without a long pause."""

    def __init__(self, expected: int) -> None:
        self._buckets: list[list[str]] = [[] for _ in range(expected // _TEXTS_PER_BUCKET + 1)]

    def add(self, texts: Iterable[str]) -> None:
        """Add texts."""
        for text in texts:
            bucket = self._buckets[hash(text) % len(self._buckets)]
            if text not in bucket:
                bucket.append(text)

    def __contains__(self, text: str) -> bool:
        return text in self._buckets[hash(text) % len(self._buckets)]


class _Either:
    """Whether one of several sets holds a text."""

    def __init__(self, sets: tuple[_Texts, ...], discovered: Callable[[str], bool]) -> None:
        self._sets = sets
        self._discovered = discovered

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and (any(text in one for one in self._sets) or self._discovered(text))


def redactor_of(config: Config) -> Redactor:
    """Return what removes a configuration's secrets and identities from the log."""
    return Confidential(config).redactor
