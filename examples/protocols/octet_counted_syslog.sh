#!/bin/sh
# Syslog with octet counting (RFC 6587), as syslog-ng's syslog() and rsyslog read it:
# a line on standard input is a message with its header, `<13>1 2026-11-26T20:00:00Z …`.
#
#   producer | sh octet_counted_syslog.sh tcp://192.0.2.7:601 outbox.db
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2
shift 2
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" \
  --input lines --output octet-counting "$@"
