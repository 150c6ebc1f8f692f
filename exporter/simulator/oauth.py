"""The OAuth app of the simulated account: its credentials, and the access tokens issued for it.

Client credentials (RFC 6749 §4.4) as Twilio documents them; generated, so not secret. Twilio documents the error
codes but not their HTTP statuses.
Source: https://www.twilio.com/docs/iam/oauth-apps/oauth-access-token and https://www.twilio.com/docs/api/errors/322402
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from exporter.simulator import sids
from exporter.simulator.answers import SimulatedResponse, error, json_answer

if TYPE_CHECKING:
    from random import Random

DEFAULT_LIFETIME_SECONDS = 3600
_FORM = "application/x-www-form-urlencoded"


class OAuthApp:
    """An OAuth app: issues access tokens for its credentials, and accepts them until they expire or are revoked.

    ``expires_in`` is what the endpoint says about the lifetime of a token in seconds, ``None`` for nothing; if it
    isn't positive, tokens live for an hour. Times are Unix times in seconds, passed in.
    """

    def __init__(self, account_sid: str, rng: Random) -> None:
        self.client_id = sids.random_sid(sids.OAUTH_APP, rng)
        self.client_secret = f"{rng.getrandbits(256):064x}"
        self.expires_in: float | None = DEFAULT_LIFETIME_SECONDS
        self.issued = 0
        self._account_sid = account_sid
        self._rng = rng
        self._tokens: dict[str, float] = {}

    @property
    def client_secret(self) -> str:
        """The current secret; a new one replaces it immediately, an empty or unprintable one raises ValueError."""
        return self._client_secret

    @client_secret.setter
    def client_secret(self, secret: str) -> None:
        if not secret or not secret.isprintable():
            raise ValueError("client_secret: must not be empty, and all characters must be printable")
        self._client_secret = secret

    def accept(self, authorization: str, now: float) -> bool:
        """Return whether an Authorization header has a valid access token; the scheme is case-insensitive."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and now < self._tokens.get(token.strip(), now)

    def revoke(self) -> int:
        """Revoke all tokens; return how many there were."""
        revoked = len(self._tokens)
        self._tokens.clear()
        return revoked

    def answer(self, method: str, content_type: str, body: bytes, now: float) -> SimulatedResponse:
        """Return the response to a request for a token."""
        if method != "POST":
            return error(405)
        form = _form(body)
        if (
            content_type.partition(";")[0].strip().lower() != _FORM
            or form.get("grant_type") != "client_credentials"
        ):
            return error(400, 322403, "Bad Request")
        if not form.get("client_id"):
            return error(400, 321402, "Empty client_id")
        if (form["client_id"], form.get("client_secret")) != (self.client_id, self.client_secret):
            return error(401, 322402, "Invalid credentials")
        document: dict[str, object] = {"access_token": self._issue(now), "id_token": None, "token_type": "Bearer"}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        return json_answer(document)

    def _issue(self, now: float) -> str:
        """Return a new token in the form of a JWT, as clients may read when it expires."""
        positive = self.expires_in is not None and self.expires_in > 0
        lifetime = self.expires_in if positive and self.expires_in is not None else DEFAULT_LIFETIME_SECONDS
        claims = {
            "iss": self.client_id,
            "sub": self._account_sid,
            "iat": int(now),
            "exp": int(now + lifetime),
            "jti": f"{self._rng.getrandbits(128):032x}",
        }
        parts = (
            _encoded(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()),
            _encoded(json.dumps(claims).encode()),
            _encoded(self._rng.getrandbits(256).to_bytes(32, "big")),
        )
        self._tokens = {token: expires for token, expires in self._tokens.items() if expires > now}
        token = ".".join(parts)
        self._tokens[token] = now + lifetime
        self.issued += 1
        return token


def _encoded(part: bytes) -> str:
    return urlsafe_b64encode(part).decode().rstrip("=")


def _form(body: bytes) -> dict[str, str]:
    """Return the fields of a form; a field that is given twice has its last value, an unreadable form has none."""
    try:
        return {name: values[-1] for name, values in parse_qs(body.decode(), max_num_fields=32).items()}
    except ValueError:
        return {}
