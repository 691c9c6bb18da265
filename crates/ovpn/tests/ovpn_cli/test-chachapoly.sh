#!/usr/bin/env bash
# Base scenario with CHACHA20-POLY1305.
set -u
ALG=chachapoly
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
