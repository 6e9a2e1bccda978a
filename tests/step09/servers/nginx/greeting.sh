#!/bin/sh
set -eu
[ -e /var/www/html/index.html ] || echo "$GREETING" >/var/www/html/index.html
echo "greeting.sh: there is a page"
