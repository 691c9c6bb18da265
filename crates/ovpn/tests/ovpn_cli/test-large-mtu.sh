#!/usr/bin/env bash
# Base scenario with outer packets larger than the link: they must be fragmented.
set -u
MTU=1500
here=$(dirname "$0")
. "$here/common.sh"
. "$here/base.sh"
