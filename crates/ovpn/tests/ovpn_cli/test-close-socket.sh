#!/usr/bin/env bash
# The processes that hold the sockets die: no hang, and every peer goes.
set -u
here=$(dirname "$0")
. "$here/common.sh"
. "$here/close-socket.sh"
