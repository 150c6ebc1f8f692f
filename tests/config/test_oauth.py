"""OAuth apps of accounts: what their table takes, and what it excludes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.config import Config, ConfigError, load
from exporter.daemon.parts import same_connection, same_credentials
from tests.support.config_texts import ACCOUNT_SID, API_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.config.conftest import Loading, Refusing

CLIENT_ID = "OQ" + "1" * 32
SECRET = "a-made-up-client-secret"
BEGIN = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\n'


def app(own: str = "", **keys: str | None) -> str:
    """Return an account with an OAuth app in TOML; ``own`` are keys of the account, ``None`` takes one out."""
    table = {"client_id": f'"{CLIENT_ID}"', "client_secret": f'"{SECRET}"', **keys}
    lines = "".join(f"{key} = {value}\n" for key, value in table.items() if value is not None)
    return f"{BEGIN}{own}[accounts.main.oauth]\n{lines}"


def test_an_app_replaces_user_name_and_password(load_text: Loading) -> None:
    config = load_text(app())
    oauth = config.settings.accounts["main"].oauth
    assert oauth is not None
    assert (oauth.client_id, oauth.token_url) == (CLIENT_ID, "https://oauth.twilio.com/v2/token")
    assert (config.passwords["main"].current, config.passwords["main"].kind) == (SECRET, "client secret")
    for text in (repr(config), str(config), repr(config.settings), repr(oauth), repr(config.passwords)):
        assert SECRET not in text
        assert CLIENT_ID not in text


def test_the_table_may_be_inline_and_come_from_variables(load_text: Loading) -> None:
    inline = load_text(
        f'{BEGIN}oauth = {{ client_id = "{CLIENT_ID}", client_secret_file = "secret" }}\n', secret=SECRET
    )
    assert inline.passwords["main"].current == SECRET
    prefix = "VERIFY_EXPORTER_ACCOUNTS__MAIN__OAUTH__"
    environ = {f"{prefix}CLIENT_ID": CLIENT_ID, f"{prefix}CLIENT_SECRET": SECRET}
    assert load_text(BEGIN, environ=environ).passwords["main"].current == SECRET


def test_the_secret_follows_its_file(load_text: Loading, tmp_path: Path) -> None:
    config = load_text(app(client_secret=None, client_secret_file='"secret"'), secret=f"{SECRET}\n")
    source = config.passwords["main"]
    assert source.path == tmp_path / "secret"
    assert tmp_path / "secret" not in config.files, "a changed secret is no reload"
    (tmp_path / "secret").write_text("another")
    assert source.reread()
    assert source.current == "another"


ACCOUNT = "config.toml: accounts.main"
APP = f"{ACCOUNT}.oauth"


ONE = "set only one of the two"
NO_APP = "is the SID of an account or API key, not the client ID of an OAuth app (OQ…)"
NO_ID = "is not the client ID of an OAuth app (OQ…): only ASCII characters without white space"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (BEGIN, ACCOUNT, "has none of password_file, password and oauth; set password_file or oauth"),
        (app(client_secret=None), APP, "has neither client_secret_file nor client_secret; set client_secret_file"),
        (
            app(client_secret_file='"secret"'),
            f"{APP}.client_secret_file",
            f"conflicts with {APP}.client_secret; {ONE}",
        ),
        (app(client_secret=None, client_secret_file='"no"'), f"{APP}.client_secret_file", "no does not exist"),
        (app(client_id=None), f"{APP}.client_id", "is missing; add it (Client ID of the OAuth app (OQ…))"),
        (
            app(f'username = "{API_KEY}"\n'),
            f"{ACCOUNT}.username",
            f"conflicts with {APP}; remove it: an OAuth app has a client ID",
        ),
        (app('password = "x"\n'), f"{ACCOUNT}.password", f"conflicts with {APP}; {ONE}"),
        (app('password_file = "secret"\n'), f"{ACCOUNT}.password_file", f"conflicts with {APP}; {ONE}"),
        (app(client_id=f'"{API_KEY}"'), f"{APP}.client_id", NO_APP),
        (app(client_id='"an app"'), f"{APP}.client_id", NO_ID),
        (app(client_secret='" x"'), f"{APP}.client_secret", "has white space at its beginning or end; remove it"),
        (app(scope='"x"'), f"{APP}.scope", "unknown key; remove it"),
    ],
)
def test_errors_name_the_key(errors_of: Refusing, text: str, place: str, problem: str) -> None:
    (error,) = errors_of(text, secret=SECRET)
    assert error.startswith(f"{place}: {problem}")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://oauth.example.com/token", "would send the client secret unencrypted"),
        ("https://id:secret@example.com/token", "contains credentials"),
        ("https://example.com/token?x=y", "has a query or a fragment"),
        ("https://example.com/token#", "has a query or a fragment"),
        ("https://oauth.twilio.com", 'write "https://oauth.twilio.com/v2/token"'),
        ("https://verify.twilio.com/v2/token", 'write "https://oauth.twilio.com/v2/token"'),
        ("oauth.twilio.com/v2/token", "https://"),
    ],
)
def test_a_token_url_that_cannot_be_one_is_refused(errors_of: Refusing, url: str, error: str) -> None:
    (refused,) = errors_of(app(token_url=f'"{url}"'))
    assert refused.startswith(f"{APP}.token_url: ")
    assert error in refused
    assert "secret@" not in refused


@pytest.mark.parametrize("url", ["http://127.0.0.1:8500/v2/token", "https://id.example.com/realms/x/token"])
def test_a_token_endpoint_may_be_on_this_machine_or_behind_a_gateway(load_text: Loading, url: str) -> None:
    oauth = load_text(app(token_url=f'"{url}"')).settings.accounts["main"].oauth
    assert oauth is not None
    assert oauth.token_url == url


def test_the_state_file_must_not_replace_the_secret(load_text: Loading) -> None:
    text = app(client_secret=None, client_secret_file='"secret"') + '[state]\nfile = "secret"\n'
    with pytest.raises(ConfigError, match="would be overwritten"):
        load_text(text, secret=SECRET)


def test_a_reload_knows_another_app_and_another_endpoint(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"

    def read(text: str) -> Config:
        path.write_text(text)
        return load(path, environ={}, flags={})

    old, same = read(app()), read(app())
    for changed, connection in (
        (app(client_id=f'"{CLIENT_ID[:-1]}2"'), False),
        (app(client_secret='"another"'), True),
        (app(token_url='"https://id.example.com/token"'), False),
        (f'{BEGIN}password = "{SECRET}"\n', False),
    ):
        new = read(changed)
        assert same_credentials(old, same, "main")
        assert not same_credentials(old, new, "main")
        assert same_connection(old, same, "main")
        assert same_connection(old, new, "main") is connection
