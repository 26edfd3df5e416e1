#!/bin/sh
# After install and upgrade: the user, the units. A running node is not restarted: its clients would notice. Drain it first
# (docs/operate.md, Upgrade), then systemctl restart tern.
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
  systemd-sysusers tern.conf || true
fi
if ! getent passwd tern >/dev/null; then
  useradd --system --home-dir /var/lib/tern --no-create-home --shell /usr/sbin/nologin --user-group tern
fi
chown root:tern /etc/tern && chmod 0750 /etc/tern
chown root:tern /etc/tern/node.yaml && chmod 0640 /etc/tern/node.yaml
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  if systemctl is-active --quiet tern; then
    echo "tern: the node goes on with the version before: drain it, then systemctl restart tern"
  fi
fi
