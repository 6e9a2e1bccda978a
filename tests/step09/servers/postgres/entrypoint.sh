#!/bin/bash
set -euo pipefail

if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown -R postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid postgres --regid postgres --init-groups -- "$0" "$@"
fi

if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "${POSTGRES_PASSWORD:-}" ]; then
        echo "there is no database yet, and no password for it: -e POSTGRES_PASSWORD=…" >&2
        exit 1
    fi
    initdb --username=postgres --pwfile=<(echo "$POSTGRES_PASSWORD") --auth-local=trust --auth-host=scram-sha-256
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait start -o "-c listen_addresses=''" # by its unix socket alone
    [ -z "${POSTGRES_DB:-}" ] || psql --username=postgres --command="CREATE DATABASE $POSTGRES_DB"
    pg_ctl --wait --mode=fast stop
    echo "the database is made"
fi

exec "$@"
