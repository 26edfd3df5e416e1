#!/bin/sh
# purge (deb) removes the node's state and keys as well; remove keeps them.
set -e
if [ "$1" = purge ]; then
  rm -rf /var/lib/tern /etc/tern
fi
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
