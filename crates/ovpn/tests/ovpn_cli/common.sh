# The test network of the ovpn-cli scenarios, and the words they are written in. Sourced by test*.sh.
#
#   ns 0: server, tun0 (MP) 5.5.5.1/24
#     veth1 10.10.1.1/24 fd00:0:0:1::1/64  <->  ns 1 veth1 10.10.1.2/24 fd00:0:0:1::2/64, tun1 (P2P) 5.5.5.2/24
#     veth2 10.10.2.1/24 ...               <->  ns 2 ...
#
# Runs with any tool that has the grammar of the kernel's selftest tool: OVPN_CLI names it (default: ovpn-cli on the
# PATH), OVPN_DRIVER tells ours whether to use the engine or the kernel. Needs root, ip, ping, iperf3, tcpdump, nft,
# jq. Ends by itself within OVPN_TEST_LIMIT seconds (default 90), and leaves nothing behind: every name holds our
# process id.

OVPN_CLI=${OVPN_CLI:-ovpn-cli}
PROTO=${PROTO:-UDP}     # UDP or TCP
ALG=${ALG:-aes}         # aes or chachapoly
ID_TYPE=${ID_TYPE:-ASYMM} # ASYMM: own ids of both sides differ; SYMM: they are equal
FLOAT=${FLOAT:-0}       # 1: clients change their address
MTU=${MTU:-}            # of the tunnel devices; empty: the driver's own
MARK=${MARK:-}          # firewall mark of the server's socket
NUM_PEERS=${NUM_PEERS:-6}
LAN_IP=11.11.11.11
DATA=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KEY=$DATA/data64.key
export LC_ALL=C

# The whole script runs under a time limit, in a process group of its own.
if [ -z "${OVPN_TEST_LIMITED:-}" ]; then
	OVPN_TEST_LIMITED=1 exec timeout -k 10 "${OVPN_TEST_LIMIT:-90}" "$BASH" "$0" "$@"
fi

TMP=$(mktemp -d "${TMPDIR:-/tmp}/ovpn-cli.$$.XXXXXX")
stage_nr=0
stage_name=start
trap cleanup EXIT
trap 'fail "stopped by a signal, most likely the time limit"' TERM INT HUP

#### Words

ns() { echo "ovpncli-$$-$1"; }                          # name of namespace $1
in_ns() { local n; n=$(ns "$1"); shift; ip netns exec "$n" "$@"; } # run a command in namespace $1
cli() { local n=$1; shift; in_ns "$n" "$OVPN_CLI" "$@"; } # run the tool in namespace $1
vpn_ip() { echo "5.5.5.$(($1 + 1))"; }                  # VPN address of peer $1
own_id() { [ "$ID_TYPE" = SYMM ] && echo "$1" || echo $(($1 + 9)); } # id of the peer on client $1
tx_id() { [ "$ID_TYPE" = SYMM ] && echo none || echo "$1"; } # id that client $1 writes into its packets
peers() { seq "${1:-1}" "$NUM_PEERS"; }                 # numbers of the peers, from $1

fail() {
	trap - EXIT TERM INT HUP
	echo "not ok $stage_nr - $stage_name"
	echo "# $*"
	cleanup
	exit 1
}

# Runs a command that must succeed. What it prints is shown when it does not.
must() {
	local status=0
	"$@" >"$TMP/out" 2>&1 || status=$?
	[ $status -eq 0 ] && return
	sed 's/^/# /' "$TMP/out"
	fail "status $status: $*"
}

# Runs a command that must fail, in the orderly way: with a status, not by a signal.
must_fail() {
	local status=0
	"$@" >"$TMP/out" 2>&1 || status=$?
	[ $status -ne 0 ] || fail "succeeded: $*"
	case $status in 124 | 126 | 127 | 134 | 137 | 139) fail "crashed with $status: $*" ;; esac
}

# Runs a command whose result does not matter.
may_fail() { "$@" >/dev/null 2>&1 || true; }

# Waits up to 5 s until a command succeeds.
wait_until() {
	local i
	for i in $(seq 100); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	fail "waited in vain: $*"
}

# A stage of the scenario: its number is counted, its name is $1, the rest is the function that does it.
stage() {
	stage_nr=$((stage_nr + 1))
	stage_name=$1
	shift
	"$@"
	echo "ok $stage_nr - $stage_name"
}

listening() { in_ns "$1" cat /proc/net/tcp /proc/net/tcp6 | grep -qi "$(printf ':%04X .*:0000 0A' "$2")"; }

#### Network

setup_ns() {
	local p
	ip netns add "$(ns 0)" || fail "cannot make namespaces: root?"
	ip -n "$(ns 0)" link set lo up
	start_listener 0
	for p in $(peers); do
		ip netns add "$(ns "$p")"
		ip -n "$(ns "$p")" link set lo up
		must ip link add "veth$p" netns "$(ns 0)" type veth peer name "veth$p" netns "$(ns "$p")"
		must ip -n "$(ns 0)" addr add "10.10.$p.1/24" dev "veth$p"
		must ip -n "$(ns 0)" addr add "fd00:0:0:$p::1/64" dev "veth$p" nodad
		must ip -n "$(ns 0)" link set "veth$p" up
		must ip -n "$(ns "$p")" addr add "10.10.$p.2/24" dev "veth$p"
		must ip -n "$(ns "$p")" addr add "fd00:0:0:$p::2/64" dev "veth$p" nodad
		must ip -n "$(ns "$p")" link set "veth$p" up
		start_listener "$p"
	done
}

# Writes the notifications of namespace $1 into a file.
start_listener() {
	in_ns "$1" "$OVPN_CLI" listen_mcast --json >"$TMP/ntf$1" 2>"$TMP/ntf$1.err" &
	disown
}

# Makes the device of namespace $1 in mode $2.
setup_device() {
	must cli "$1" new_iface "tun$1" "$2"
	must ip -n "$(ns "$1")" addr add "5.5.5.$(($1 + 1))/24" dev "tun$1"
	[ -z "$MTU" ] || must ip -n "$(ns "$1")" link set "tun$1" mtu "$MTU"
	must ip -n "$(ns "$1")" link set "tun$1" up
}

setup_devices() {
	local p
	setup_device 0 MP
	for p in $(peers); do setup_device "$p" P2P; done
}

setup_lan() {
	must ip -n "$(ns 1)" addr add "$LAN_IP/32" dev tun1
	must ip -n "$(ns 0)" route add "$LAN_IP" via "$(vpn_ip 1)" dev tun0
}

setup_peers_udp() {
	local id tx laddr lport raddr rport vpn
	head -n "$NUM_PEERS" "$DATA/udp_peers.txt" >"$TMP/peers"
	# shellcheck disable=SC2086
	must cli 0 new_multi_peer tun0 1 "$ID_TYPE" "$TMP/peers" $MARK
	while read -r id tx laddr lport raddr rport vpn; do
		must cli "$id" new_peer "tun$id" "$(own_id "$id")" "$(tx_id "$id")" "$rport" "$laddr" "$lport"
		must cli 0 new_key tun0 "$id" 1 0 "$ALG" 0 "$KEY"
		must cli "$id" new_key "tun$id" "$(own_id "$id")" 1 0 "$ALG" 1 "$KEY"
	done <"$TMP/peers"
}

setup_peers_tcp() {
	local p
	head -n "$NUM_PEERS" "$DATA/tcp_peers.txt" >"$TMP/peers"
	cli 0 listen tun0 1 "$ID_TYPE" "$TMP/peers" >"$TMP/listen" 2>&1 &
	local listen=$!
	wait_until listening 0 1
	for p in $(peers); do
		must cli "$p" connect "tun$p" "$(own_id "$p")" "$(tx_id "$p")" "10.10.$p.1" 1 "$KEY"
	done
	wait $listen || fail "listen: status $?: $(cat "$TMP/listen")"
	# Every client sent one control packet through the driver.
	[ "$(grep -c '^>>>> Received' "$TMP/listen")" = "$NUM_PEERS" ] || fail "control packets: $(cat "$TMP/listen")"
	for p in $(peers); do must cli 0 new_key tun0 "$p" 1 0 "$ALG" 0 "$KEY"; done
}

setup() {
	local p
	setup_ns
	setup_devices
	if [ "$PROTO" = TCP ]; then setup_peers_tcp; else setup_peers_udp; fi
	for p in $(peers); do
		must cli 0 set_peer tun0 "$p" 60 120
		must cli "$p" set_peer "tun$p" "$(own_id "$p")" 60 120
	done
}

#### Traffic

# Flood ping from namespace $1: 100 packets answered within 3 s; the rest are arguments of ping.
flood() { local n=$1; shift; must in_ns "$n" ping -qf -c 100 -w 3 "$@"; }

# Starts a capture on the veth of client $1 that ends with the first packet matching $2; sets capture_pid.
start_capture() {
	: >"$TMP/cap$2"
	in_ns "$1" timeout 8 tcpdump --immediate-mode -p -n -i "veth$1" -c 1 "$3" >"$TMP/cap$2" 2>&1 &
	capture_pid=$!
	wait_until grep -q listening "$TMP/cap$2"
}

# A filter for OpenVPN packets to or from client $1 whose first four bytes are $2.
header_filter() {
	if [ "$PROTO" = TCP ]; then
		echo "tcp port 1 and tcp[(((tcp[12] & 0xf0) >> 2) + 2):4] == 0x$2"
	elif [ "$1" -lt 4 ]; then
		echo "udp port 1 and udp[8:4] == 0x$2"
	else
		echo "ip6 proto 17 and ip6[48:4] == 0x$2"
	fi
}

baseline_traffic() {
	local p up down
	for p in $(peers); do
		start_capture "$p" up "$(header_filter "$p" "$(printf 480000%02x "$p")") and dst $(server_ip "$p")"
		up=$capture_pid
		start_capture "$p" down "$(header_filter "$p" "$(printf 480000%02x "$(own_id "$p")")") and src $(server_ip "$p")"
		down=$capture_pid
		flood 0 "$(vpn_ip "$p")"
		flood 0 -s 3000 "$(vpn_ip "$p")"
		wait "$up" || fail "no packet of client $p with the expected header: $(cat "$TMP/capup")"
		wait "$down" || fail "no packet to client $p with the expected header: $(cat "$TMP/capdown")"
	done
}

# The server's address as client $1 knows it.
server_ip() { [ "$PROTO" = TCP ] || [ "$1" -lt 4 ] && echo "10.10.$1.1" || echo "fd00:0:0:$1::1"; }

throughput() {
	in_ns 0 iperf3 -1 -s >"$TMP/iperf-server" 2>&1 &
	local server=$!
	wait_until listening 0 5201
	must in_ns 1 iperf3 -t 3 -c 5.5.5.1
	wait $server || fail "iperf3 server: $(cat "$TMP/iperf-server")"
}

#### Notifications

# Prints the notifications of namespace $1 in a form that can be compared: by peer, without interface index, without
# those that carry an IPv6 address; on TCP without reasons, which differ with who closes first.
notifications() {
	local reasons='.'
	[ "$PROTO" = UDP ] || reasons='del(.msg.peer["del-reason"])'
	jq -S -s "map(select(.msg.peer[\"remote-ipv6\"] == null) | del(.msg.ifindex) | $reasons) | sort_by(.msg.peer.id)" "$1"
}

# True when namespace $1 saw what the file $2 says.
saw() { diff <(notifications "$2") <(notifications "$TMP/ntf$1") >"$TMP/diff"; }

compare_notifications() {
	local p suffix=
	[ "$ID_TYPE" = ASYMM ] || suffix=-symm
	if [ "$FLOAT" = 1 ]; then compare 0 "$DATA/json/peer0-float.json"; else compare 0 "$DATA/json/peer0.json"; fi
	for p in $(peers); do compare "$p" "$DATA/json/peer$p$suffix.json"; done
}

compare() {
	local i
	for i in $(seq 20); do
		saw "$1" "$2" && return
		sleep 0.1
	done
	sed 's/^/# /' "$TMP/diff" "$TMP/ntf$1.err"
	fail "notifications in namespace $1 are not those of $2"
}

#### End

# Kills the processes that hold the peers' sockets, the way a crash would.
kill_tools() {
	local p pid
	for p in 0 $(peers); do
		for pid in $(ip netns pids "$(ns "$p")" 2>/dev/null); do
			[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$(basename "$OVPN_CLI" | cut -c1-15)" ] || continue
			# The listeners stay: they hold no socket of a peer.
			grep -qz '^listen_mcast$' "/proc/$pid/cmdline" 2>/dev/null && continue
			kill -9 "$pid" 2>/dev/null
		done
	done
}

cleanup() {
	trap - EXIT TERM INT HUP
	local p pid
	for p in 0 $(peers); do
		[ -e "/run/netns/$(ns "$p")" ] || [ -e "/var/run/netns/$(ns "$p")" ] || continue
		cli "$p" del_iface "tun$p" >/dev/null 2>&1
		for pid in $(ip netns pids "$(ns "$p")" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
		ip netns del "$(ns "$p")" 2>/dev/null
	done
	rm -rf "$TMP"
}
