#!/bin/sh
# Modbus/TCP: requests on standard input, such as writes of registers. Each goes out once
# the last one is acknowledged.
#
#   producer | sh modbus_tcp.sh tcp://192.0.2.7:502 outbox.db
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2
shift 2
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input modbus-tcp --separate "$@"
