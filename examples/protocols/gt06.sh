#!/bin/sh
# GT06 trackers and their kin: packets on standard input. On each connection the server
# first gets the login packet, which has the tracker's IMEI, and answers it.
#
#   printf '\170\170\015\001\001\043\105\147\211\001\043\105\000\001\214\335\015\012' > login.bin
#   producer | sh gt06.sh tcp://192.0.2.7:5023 outbox.db login.bin
#
# Many of these servers take what one read gives them for one packet: --separate. As
# they do not answer a location, nobody knows when they have read it; a pace leaves
# them the time. Set it to what the tracker makes, and not much more.
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2 login=$3
shift 3
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input gt06 \
  --session-send "@$login" --session-expect '/^xx\x05\x01[\s\S]{4}\r\n/' \
  --separate --max-packets-per-second 50 "$@"
