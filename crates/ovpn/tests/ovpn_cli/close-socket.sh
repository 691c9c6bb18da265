# The stages of the close-socket scenario.

pings() {
	local p
	for p in $(peers); do flood 0 "$(vpn_ip "$p")"; done
}

# After the sockets' owners died every peer of every device is gone, with the reason said.
gone() {
	local p
	for p in 0 $(peers); do
		must cli "$p" get_peer "tun$p"
		! grep -q '^\* Peer' "$TMP/out" || return 1
	done
}
reported() {
	local n
	n=$(cat "$TMP"/ntf[0-9] | jq -s 'map(select(.msg.peer["del-reason"] | IN("transport-disconnect", "transport-error"))) | length')
	[ "$n" = $((2 * NUM_PEERS)) ]
}

teardown() {
	local p
	kill_tools
	wait_until gone
	wait_until reported
	for p in 0 $(peers); do
		must cli "$p" del_iface "tun$p"
		must_fail ip -n "$NS$p" link show "tun$p"
	done
}

echo 1..4
stage "setup" setup
stage "baseline traffic" pings
stage "throughput" throughput
stage "teardown" teardown
