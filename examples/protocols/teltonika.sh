#!/bin/sh
# Teltonika trackers: data packets (codec 8, 8E, 16) on standard input. On each
# connection the server first gets the tracker's IMEI, and says 01 or 00.
#
#   producer | sh teltonika.sh tcp://192.0.2.7:5027 outbox.db 356307042441013
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2 imei=$3
shift 3
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" \
  --input length:4,header=00000000,adjust=4 \
  --session-send "\\x00\\x0f$imei" --session-expect '\x01' "$@"
