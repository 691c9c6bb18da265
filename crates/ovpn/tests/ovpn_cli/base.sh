# The stages of the base scenario; test.sh and its variants differ only in the variables of common.sh.

lan() { flood 0 "$LAN_IP"; }

key_rollover() {
	local p
	for p in $(peers); do
		must cli 0 new_key tun0 "$p" 2 1 "$ALG" 0 "$KEY"
		must cli "$p" new_key "tun$p" "$(own_id "$p")" 2 1 "$ALG" 1 "$KEY"
		# Only the client's side: from here on it sends with key 1 and the server with key 0.
		must cli "$p" swap_keys "tun$p" "$(own_id "$p")"
	done
}

queries() {
	must cli 0 get_peer tun0
	must cli 1 get_peer tun1
	must cli 0 get_peer tun0 1
}

missing_peer() { must_fail cli 0 get_peer tun0 20; }

lifecycle() {
	local p
	must cli 0 del_peer tun0 1
	must cli 1 del_peer tun1 "$(own_id 1)"
	for p in $(peers 2); do
		must cli "$p" get_key "tun$p" "$(own_id "$p")" 1
		must cli "$p" get_key "tun$p" "$(own_id "$p")" 2
	done
}

delete_under_traffic() {
	in_ns 2 ping -qf -w 4 5.5.5.1 >/dev/null 2>&1 &
	local ping=$!
	sleep 2
	must cli 0 del_peer tun0 2
	if [ "$PROTO" = UDP ]; then
		must cli 2 del_peer tun2 "$(own_id 2)"
	else
		# The end of the stream may have removed it already.
		may_fail cli 2 del_peer tun2 "$(own_id 2)"
	fi
	wait $ping || true
}

delete_keys() {
	local p
	for p in $(peers 3); do
		must cli "$p" del_key "tun$p" "$(own_id "$p")" 1
		must cli "$p" del_key "tun$p" "$(own_id "$p")" 2
	done
}

timeouts() {
	local p
	for p in $(peers 3); do
		# Over TCP the server's side may be gone.
		may_fail cli 0 set_peer tun0 "$p" 3 3
		must cli "$p" set_peer "tun$p" "$(own_id "$p")" 0 0
	done
	sleep 5
	# The server's side has expired; the client's is still there, and expires in turn.
	for p in $(peers 3); do must cli "$p" set_peer "tun$p" "$(own_id "$p")" 3 3; done
	sleep 5
}

float() {
	local p
	for p in $(peers); do
		in_ip "$p" addr del "10.10.$p.2/24" dev "veth$p"
		in_ip "$p" addr add "10.10.$p.3/24" dev "veth$p"
	done
	# The client speaks first: the server cannot know where it is now.
	for p in $(peers); do flood "$p" 5.5.5.1; done
}

#### VPN addresses that no peer may have

NEVER="0.0.0.0 :: 127.0.0.1 224.0.0.1 255.255.255.255 ::1 ::192.0.2.1 ::ffff:192.0.2.1 ff02::1"

vpn_addresses() {
	local address
	new_7() { cli 0 new_peer tun0 7 none 65000 10.10.1.2 1 "$@"; }
	set_vpn() { cli 0 set_peer tun0 "$1" 60 120 "$2"; }

	must_fail new_7
	for address in $NEVER; do must_fail new_7 "$address"; done
	must_fail new_7 5.5.5.2
	must_fail set_vpn 1 0.0.0.0
	for address in $NEVER; do
		case $address in 0.0.0.0 | ::) continue ;; esac
		must_fail set_vpn 1 "$address"
	done
	must_fail set_vpn 2 5.5.5.2
	must set_vpn 1 2001:db8::2
	must_fail new_7 2001:db8::2
	must_fail set_vpn 2 2001:db8::2
	must set_vpn 1 0.0.0.0
	must_fail set_vpn 1 ::
	must set_vpn 1 5.5.5.2
	must set_vpn 1 ::
}

#### The run

base_setup() {
	setup
	setup_lan
}

if [ "$FLOAT" = 1 ]; then echo 1..14; else echo 1..13; fi
stage "setup" base_setup
stage "VPN address validation" vpn_addresses
stage "baseline traffic" baseline_traffic
stage "LAN behind a client" lan
[ "$FLOAT" = 0 ] || stage "float" float
stage "throughput" throughput
stage "key rollover" key_rollover
stage "queries" queries
stage "missing peer" missing_peer
stage "lifecycle" lifecycle
stage "delete under traffic" delete_under_traffic
stage "delete keys" delete_keys
stage "timeouts" timeouts
stage "notifications" compare_notifications
