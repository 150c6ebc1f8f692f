#!/bin/sh
# Publish the watchlist that arrives on standard input: … | publish_watchlist.sh /srv/watchlist/factors.json
set -eu
new=$(mktemp "$1.XXXXXX")
trap 'rm -f "$new"' EXIT
cat > "$new"
python3 -c 'import json, sys; sys.exit(not json.load(sys.stdin)["factors"])' < "$new"
cmp -s "$new" "$1" && exit  # an unchanged file keeps its ETag
chmod 640 "$new"
mv "$new" "$1"  # a reader gets the old file or the new one, never a part of one
