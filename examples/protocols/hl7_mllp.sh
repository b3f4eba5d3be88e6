#!/bin/sh
# HL7 version 2 over MLLP: messages on standard input, each between 0B and 1C 0D.
#
#   producer | sh hl7_mllp.sh tcp://192.0.2.7:2575 outbox.db
#
# Further arguments are flags of send. SENDQ names the command, where it is no sendq.
set -eu
remote=$1 queue=$2
shift 2
exec "${SENDQ:-sendq}" send "$remote" --queue "$queue" --input mllp --separate "$@"
