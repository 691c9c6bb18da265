#!/usr/bin/env bash
# The processes that hold the sockets die, over TCP.
set -u
PROTO=TCP
here=$(dirname "$0")
. "$here/common.sh"
. "$here/close-socket.sh"
