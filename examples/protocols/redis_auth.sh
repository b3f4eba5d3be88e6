#!/bin/sh
# redis with a password: each line on standard input is a command, such as
# `RPUSH temperatures 21.5`, and goes out as it is.
#
#   printf 'AUTH secret\r\n' > login.txt
#   producer | sh redis_auth.sh tcp://192.0.2.7:6379 outbox.db login.txt
#
# redis says +OK or -WRONGPASS; in quiet times it is asked whether it still lives.
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2 login=$3
shift 3
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input lines \
  --session-send "@$login" --session-expect '+OK\r\n' \
  --heartbeat 'PING\r\n' --heartbeat-expect '+PONG' --goodbye 'QUIT\r\n' "$@"
