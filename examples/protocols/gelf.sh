#!/bin/sh
# GELF over TCP, as Graylog and rsyslog read it: a line of JSON on standard input is a
# message, and ends with a NUL byte on the wire.
#
#   producer | sh gelf.sh tcp://192.0.2.7:12201 outbox.db
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2
shift 2
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input lines --output gelf "$@"
