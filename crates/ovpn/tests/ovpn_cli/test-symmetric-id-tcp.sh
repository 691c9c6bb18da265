#!/usr/bin/env bash
# Base scenario with equal ids on both sides, over TCP.
set -u
ID_TYPE=SYMM PROTO=TCP
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
