"""Serve the view verify_watchlist as a watchlist; the variables SERVICE_SID, TOKEN_FILE and PG… configure it."""

import hashlib
import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

QUERY = "SELECT name, %s AS service_sid, identity, factor_sid, labels FROM verify_watchlist ORDER BY factor_sid"
SERVICE_SID, PORT = os.environ["SERVICE_SID"], int(os.environ.get("PORT", "8080"))
if not (TOKEN := Path(os.environ["TOKEN_FILE"]).read_text().strip()):
    raise SystemExit("the token is empty")


class Watchlist(BaseHTTPRequestHandler):
    timeout = 10  # seconds, after which a silent client is disconnected

    def do_GET(self) -> None:
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), f"Bearer {TOKEN}".encode()):
            return self.answer(401, {"WWW-Authenticate": "Bearer"})
        try:
            with psycopg.connect(connect_timeout=5, row_factory=dict_row) as database:
                rows = database.execute(QUERY, [SERVICE_SID]).fetchall()
        except psycopg.Error as error:
            self.log_error("query failed: %s", error)
            return self.answer(503, {})
        factors = [row for row in rows if None not in row.values()]
        if len(factors) < len(rows):
            self.log_error("skipped %d of %d rows with a NULL", len(rows) - len(factors), len(rows))
        body = json.dumps({"factors": factors}).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        if etag in self.headers.get("If-None-Match", ""):
            return self.answer(304, {"ETag": etag})
        headers = {"ETag": etag, "Content-Type": "application/json", "Content-Length": str(len(body))}
        return self.answer(200, headers, body)

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Watchlist).serve_forever()
