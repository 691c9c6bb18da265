#!/usr/bin/env bash
# Base scenario with equal ids on both sides.
set -u
ID_TYPE=SYMM
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
