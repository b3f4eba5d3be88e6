#!/bin/sh
# Graphite's carbon: a line on standard input is `metric value time`. It keeps points in
# memory until it writes them, so that the hold is longer than that takes.
#
#   producer | sh carbon.sh tcp://192.0.2.7:2003 outbox.db
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2
shift 2
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input lines --hold 5s "$@"
