"""The web server below the paths: it listens, limits and authenticates. It knows no page.

- sockets.py: listens on every address, accepts connections, stops
- connections.py: how many connections there may be and how long each may take; client certificates
- peers.py: which clients scraped lately
- gate.py: the middleware before every path: rate limit, authentication, requests answered at once
- basicauth.py: passwords against bcrypt hashes
- checks.py: which password is checked next
- limits.py: every limit, its default and its meaning (docs/web-config.md is generated from it)

It relies on internals of aiohttp (three places, each with a comment); the lock file pins aiohttp's version.
"""
