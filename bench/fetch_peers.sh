#!/usr/bin/env bash
# Unpacks Debian's rsyslog and syslog-ng below a directory, with the libraries
# that are missing here, and installs nothing: the two packages would remove
# each other.
#
#   bench/fetch_peers.sh DIRECTORY
#   deno task bench --peers=DIRECTORY peers
set -euo pipefail

if [ $# != 1 ]; then
  echo "usage: $0 DIRECTORY" >&2
  exit 2
fi
mkdir -p "$1/packages"
cd "$1/packages"
for package in rsyslog syslog-ng-core; do
  needed=$(apt-get install --simulate --no-install-recommends "$package" | sed -n 's/^Inst \([^ ]*\).*/\1/p')
  if [ -z "$needed" ]; then
    echo "$package is installed here already" >&2
    continue
  fi
  # shellcheck disable=SC2086  # one word a package
  apt-get download -qq $needed 2> >(grep -v 'unsandboxed' >&2)
done
for package in *.deb; do
  if [ -f "$package" ]; then dpkg -x "$package" ..; fi
done
