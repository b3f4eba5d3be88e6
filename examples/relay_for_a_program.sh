#!/bin/sh
# An existing program that only knows how to connect and write lines. It is not
# changed: it is told the relay's address in the place of its server's.
#
#   examples/relay_for_a_program.sh tcp://legacy:4000 outbox.db /run/user/1000/out.sock \
#     logger --socket /run/user/1000/out.sock ...
#
# The variables DENO and LIBC name another deno, and another C library.
set -eu
if [ $# -lt 4 ]; then
  echo "usage: $0 REMOTE QUEUE SOCKET PROGRAM [ARGUMENT...]" >&2
  exit 2
fi
to=$1 queue=$2 socket=$3
shift 3

sendq="$(dirname "$0")/../src/cli/main.ts"
libc=${LIBC:-/lib/$(uname -m)-linux-gnu/libc.so.6}
directory=$(mktemp -d)
mkfifo "$directory/log"

"${DENO:-deno}" run --no-prompt \
  --allow-net="${to#tcp://},unix:$socket" \
  --allow-read="$queue,$queue.lock,$socket" --allow-write="$queue,$queue.lock,$socket" \
  --allow-ffi="$libc" \
  "$sendq" relay --listen "unix:$socket" --to "$to" --queue "$queue" 2>"$directory/log" &
relay=$!
trap 'kill $relay 2>/dev/null || true' INT TERM
exec 3<"$directory/log"
rm -r "$directory"

# Its log says when clients can connect and SIGTERM stops it in order. The socket may be there
# before, also one that a killed relay has left.
line=
until [ "${line#* listening on }" != "$line" ]; do
  IFS= read -r line <&3 || { wait $relay; exit 1; }
  printf '%s\n' "$line" >&2
done
cat <&3 >&2 &
log=$!
exec 3<&-

status=0
"$@" || status=$?

# Delivers what it can; 75 says that packets are kept for the next time.
kill -TERM $relay
wait $relay || { relayed=$?; [ $status -ne 0 ] || status=$relayed; }
wait $log
exit $status
