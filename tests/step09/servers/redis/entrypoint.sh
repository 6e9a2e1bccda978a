#!/bin/sh
set -eu
case "$1" in -*) set -- redis-server "$@" ;; esac # options alone: they are the server's
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis {} +
    exec setpriv --reuid redis --regid redis --init-groups -- "$0" "$@"
fi
umask 077
exec "$@"
