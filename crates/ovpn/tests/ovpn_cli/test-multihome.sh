#!/usr/bin/env bash
# A server with several addresses on one link: each client contacts another one, and is answered from that one.
set -u
NUM_PEERS=3
here=$(dirname "$0")
. "$here/common.sh"

setup_bridge() {
	local p
	ip netns add "${NS}0" || fail "cannot make namespaces: root?"
	ip -n "${NS}0" link set lo up
	in_ip 0 link add br0 type bridge
	in_ip 0 link set br0 up
	for p in $(peers); do
		in_ip 0 addr add "10.10.10.$p/24" dev br0
		ip netns add "$NS$p"
		ip -n "$NS$p" link set lo up
		must ip link add "veth$p" netns "${NS}0" type veth peer name "veth$p" netns "$NS$p"
		in_ip 0 link set "veth$p" master br0 up
		in_ip "$p" addr add "10.10.10.$((p + 100))/24" dev "veth$p"
		in_ip "$p" link set "veth$p" up
		printf '%s %s 10.10.10.%s 1 10.10.10.%s 1 %s\n' "$p" "$(own_id "$p")" "$p" $((p + 100)) "$(vpn_ip "$p")"
	done >"$TMP/peers"
	setup_devices
	must cli 0 new_multi_peer tun0 1 "$ID_TYPE" "$TMP/peers"
	for p in $(peers); do
		must cli "$p" new_peer "tun$p" "$(own_id "$p")" "$(tx_id "$p")" 1 "10.10.10.$p" 1
		must cli 0 new_key tun0 "$p" 1 0 "$ALG" 0 "$KEY"
		must cli "$p" new_key "tun$p" "$(own_id "$p")" 1 0 "$ALG" 1 "$KEY"
	done
}

# The client speaks first, and from then on is answered from the address it spoke to.
answers() {
	local p
	for p in $(peers); do
		must in_ns "$p" ping -q -c 1 -w 3 5.5.5.1
		start_capture "$p" wrong "udp port 1 and src net 10.10.10.0/26 and not src 10.10.10.$p"
		start_capture "$p" right "udp port 1 and src 10.10.10.$p"
		flood "$p" 5.5.5.1
		flood 0 "$(vpn_ip "$p")"
		wait "$capture_pid" || fail "client $p: no answer from 10.10.10.$p"
		! grep -q '^1 packet captured' "$TMP/capwrong" || fail "client $p was answered from another address"
		must cli "$p" get_peer "tun$p"
		grep -q "10\.10\.10\.$p:1" "$TMP/out" || fail "client $p now sends elsewhere: $(cat "$TMP/out")"
	done
}

echo 1..2
stage "setup" setup_bridge
stage "answers come from the address contacted" answers
