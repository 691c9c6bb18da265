#!/usr/bin/env bash
# Every encrypted packet carries the mark of the server's socket, and nothing else does.
set -u
NUM_PEERS=3
MARK=1056
here=$(dirname "$0")
. "$here/common.sh"

pings() {
	local p
	for p in $(peers); do flood 0 "$(vpn_ip "$p")"; done
}

nft0() { in_ns 0 nft "$@"; }

block() {
	must nft0 add table inet filter
	must nft0 'add chain inet filter output { type filter hook output priority 0 ; policy accept ; }'
	must nft0 add rule inet filter output meta mark "$MARK" counter drop
}

blocked() {
	local p sent=0 dropped
	for p in $(peers); do
		must_fail in_ns 0 ping -qf -c 100 -w 1 "$(vpn_ip "$p")"
		sent=$((sent + $(sed -n 's/^\([0-9]*\) packets transmitted.*/\1/p' "$TMP/out")))
	done
	dropped=$(nft0 list chain inet filter output | sed -n 's/.*counter packets \([0-9]*\).*/\1/p')
	[ "$sent" -gt 0 ] && [ "$sent" = "$dropped" ] || fail "sent $sent, dropped by mark $dropped"
}

unblock() {
	must nft0 flush chain inet filter output
	pings
}

echo 1..5
stage "setup" setup
stage "baseline traffic" pings
stage "firewall rule" block
stage "all marked packets are dropped" blocked
stage "traffic after the rule is gone" unblock
