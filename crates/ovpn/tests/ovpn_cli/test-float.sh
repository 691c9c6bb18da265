#!/usr/bin/env bash
# Base scenario with clients that change their address.
set -u
FLOAT=1
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
