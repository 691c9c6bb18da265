#!/usr/bin/env bash
# Base scenario over TCP.
set -u
PROTO=TCP
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
