#!/bin/sh
# A server that speaks first, as SMTP's do: it ends a connection on which somebody talks
# before its greeting. A packet is a whole transaction, from MAIL FROM to the lone dot:
# only for servers that take them in one piece. Such a server reads ahead, and has in
# memory what its kernel has acknowledged: the hold is longer than it takes for that.
#
#   producer | sh smtp_greeting.sh tcp://192.0.2.7:25 outbox.db
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2
shift 2
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input delimiter:0d0a2e0d0a \
  --session-expect '/^220 [^\r\n]*\r\n/' --session-refuse '/^[45]\d\d[^\r\n]*\r\n/' \
  --session-send 'EHLO sendq\r\n' --session-expect '/(?:^|\n)250 [^\r\n]*\r\n/' \
  --session-refuse '/^[45]\d\d[^\r\n]*\r\n/' \
  --goodbye 'QUIT\r\n' --hold 10s "$@"
