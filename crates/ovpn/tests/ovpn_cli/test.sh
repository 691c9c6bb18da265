#!/usr/bin/env bash
# Base scenario: UDP over IPv4 and IPv6, AES, ids that differ.
set -u
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
