#!/usr/bin/env bash
# Base scenario with equal ids on both sides and clients that change their address.
set -u
ID_TYPE=SYMM FLOAT=1
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
