#!/bin/sh
# SMPP 3.4: PDUs on standard input, told apart by their lengths. Each connection is
# bound first; the bind is a PDU of its own, in a file because it has the password:
#
#   { printf '\000\000\000\042\000\000\000\011\000\000\000\000\000\000\000\001'
#     printf 'field\000secret\000\000\064\000\000\000'; } > bind.pdu   # 34 bytes, octal 042
#   producer | sh smpp.sh tcp://192.0.2.7:2775 outbox.db bind.pdu
#
# The answer to it has command id 80000009 and status 0; any other status is a refusal.
# Quiet connections are kept by enquire_link; the end is an unbind.
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2 bind=$3
shift 3
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input smpp \
  --session-send "@$bind" \
  --session-expect '/^[\s\S]{4}\x80\x00\x00\x09\x00\x00\x00\x00[\s\S]{4}/' \
  --session-refuse '/^[\s\S]{8}(?!\x00{4})[\s\S]{8}/' \
  --heartbeat '\x00\x00\x00\x10\x00\x00\x00\x15\x00\x00\x00\x00\x00\x00\x00\x02' \
  --heartbeat-expect '\x80\x00\x00\x15\x00\x00\x00\x00' \
  --goodbye '\x00\x00\x00\x10\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x03' "$@"
