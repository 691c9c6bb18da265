# The test network of the ovpn-cli scenarios, and the words they are written in. Sourced by test*.sh.
#
#   ns 0: server, tun0 (MP) 5.5.5.1/24
#     veth1 10.10.1.1/24 fd00:0:0:1::1/64  <->  ns 1 veth1 10.10.1.2/24 fd00:0:0:1::2/64, tun1 (P2P) 5.5.5.2/24
#     veth2 10.10.2.1/24 ...               <->  ns 2 ...
#
# Runs with any tool that has the grammar of the kernel's selftest tool: OVPN_CLI names it (default: ovpn-cli on the
# PATH), OVPN_DRIVER tells ours whether to use the engine or the kernel. Needs root, ip, ping, iperf3, tcpdump, nft,
# jq. Ends by itself within OVPN_TEST_LIMIT seconds (default 90), and leaves nothing behind: every name holds our
# process id. OVPN_PATIENCE makes every other limit longer, by that factor: for emulated machines, on which starting a
# program is dear, too: what bash can do itself it does here.

OVPN_CLI=${OVPN_CLI:-ovpn-cli}
PROTO=${PROTO:-UDP}     # UDP or TCP
ALG=${ALG:-aes}         # aes or chachapoly
ID_TYPE=${ID_TYPE:-ASYMM} # ASYMM: own ids of both sides differ; SYMM: they are equal
FLOAT=${FLOAT:-0}       # 1: clients change their address
MTU=${MTU:-}            # of the tunnel devices; empty: the driver's own
MARK=${MARK:-}          # firewall mark of the server's socket
NUM_PEERS=${NUM_PEERS:-6}
PATIENCE=${OVPN_PATIENCE:-1}
LAN_IP=11.11.11.11
DATA=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KEY=$DATA/data64.key
export LC_ALL=C

# The whole script runs under a time limit, in a process group of its own.
if [ -z "${OVPN_TEST_LIMITED:-}" ]; then
	OVPN_TEST_LIMITED=1 exec timeout -k 10 "${OVPN_TEST_LIMIT:-90}" "$BASH" "$0" "$@"
fi

TMP=$(mktemp -d "${TMPDIR:-/tmp}/ovpn-cli.$$.XXXXXX")
NS=ovpncli-$$-          # names of the namespaces, up to their numbers
mkfifo "$TMP/never"
exec {never}<>"$TMP/never"
stage_nr=0
stage_start=$SECONDS
stage_name=start
trap cleanup EXIT
trap 'fail "stopped by a signal, most likely the time limit"' TERM INT HUP

#### Words

in_ns() { local n=$NS$1; shift; ip netns exec "$n" "$@"; } # run a command in namespace $1
in_ip() { local n=$NS$1; shift; must ip -n "$n" "$@"; } # run ip there
in_ips() { must ip -n "$NS$1" -batch -; }               # run every line of the standard input by ip there
cli() { local n=$1; shift; in_ns "$n" "$OVPN_CLI" "$@"; } # run the tool in namespace $1
vpn_ip() { echo "5.5.5.$(($1 + 1))"; }                  # VPN address of peer $1
own_id() { [ "$ID_TYPE" = SYMM ] && echo "$1" || echo $(($1 + 9)); } # id of the peer on client $1
tx_id() { [ "$ID_TYPE" = SYMM ] && echo none || echo "$1"; } # id that client $1 writes into its packets
pause() { read -rt "$1" -u "$never" || true; }          # sleep $1 seconds
has() { [[ $(<"$1") == *"$2"* ]]; }                     # true when the file $1 holds the text $2

# The numbers of the peers, from $1.
peers() {
	local p
	for ((p = ${1:-1}; p <= NUM_PEERS; p++)); do echo "$p"; done
}

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
	local end=$((SECONDS + 5 * PATIENCE))
	while ((SECONDS <= end)); do
		"$@" >/dev/null 2>&1 && return
		pause 0.05
	done
	fail "waited in vain: $*"
}

# A stage of the scenario: its number is counted, its name is $1, the rest is the function that does it.
stage() {
	stage_nr=$((stage_nr + 1))
	stage_name=$1
	shift
	"$@"
	echo "ok $stage_nr - $stage_name ($((SECONDS - stage_start)) s)"
	stage_start=$SECONDS
}

listening() { in_ns "$1" cat /proc/net/tcp /proc/net/tcp6 | grep -qi "$(printf ':%04X .*:0000 0A' "$2")"; }

#### Network

setup_ns() {
	local p
	ip netns add "${NS}0" || fail "cannot make namespaces: root?"
	ip -n "${NS}0" link set lo up
	start_listener 0
	for p in $(peers); do
		must ip netns add "$NS$p"
		in_ips "$p" <<-END
			link set lo up
			link add veth$p type veth peer name veth$p netns ${NS}0
			addr add 10.10.$p.2/24 dev veth$p
			addr add fd00:0:0:$p::2/64 dev veth$p nodad
			link set veth$p up
		END
		start_listener "$p"
	done
	for p in $(peers); do
		echo "addr add 10.10.$p.1/24 dev veth$p"
		echo "addr add fd00:0:0:$p::1/64 dev veth$p nodad"
		echo "link set veth$p up"
	done >"$TMP/addresses"
	in_ips 0 <"$TMP/addresses"
}

# Writes the notifications of namespace $1 into a file.
start_listener() {
	in_ns "$1" "$OVPN_CLI" listen_mcast --json >"$TMP/ntf$1" 2>"$TMP/ntf$1.err" &
	disown
}

# Makes the device of namespace $1 in mode $2.
setup_device() {
	must cli "$1" new_iface "tun$1" "$2"
	in_ips "$1" <<-END
		addr add 5.5.5.$(($1 + 1))/24 dev tun$1
		link set tun$1 ${MTU:+mtu $MTU} up
	END
}

setup_devices() {
	local p
	setup_device 0 MP
	for p in $(peers); do setup_device "$p" P2P; done
}

setup_lan() {
	in_ip 1 addr add "$LAN_IP/32" dev tun1
	in_ip 0 route add "$LAN_IP" via "$(vpn_ip 1)" dev tun0
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
flood() { local n=$1; shift; must in_ns "$n" ping -qf -c 100 -w $((3 * PATIENCE)) "$@"; }

# Starts a capture on the veth of client $1 into the file $2 that ends with packet number $4 that matches $3; sets
# capture_pid.
start_capture() {
	: >"$TMP/cap$2"
	in_ns "$1" timeout $((8 * PATIENCE)) tcpdump --immediate-mode -p -n -i "veth$1" -c "${4:-1}" "$3" >"$TMP/cap$2" 2>&1 &
	capture_pid=$!
	wait_until has "$TMP/cap$2" listening
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

# Both ways every packet carries the id that its receiver expects.
baseline_traffic() {
	local p server up down
	for p in $(peers); do
		server=$(server_ip "$p")
		up="($(header_filter "$p" "$(printf 480000%02x "$p")") and dst $server)"
		down="($(header_filter "$p" "$(printf 480000%02x "$(own_id "$p")")") and src $server)"
		start_capture "$p" both "$up or $down" 40
		flood 0 "$(vpn_ip "$p")"
		flood 0 -s 3000 "$(vpn_ip "$p")"
		wait "$capture_pid" || fail "client $p: too few packets with the expected headers: $(<"$TMP/capboth")"
		grep -q " > $server.1: " "$TMP/capboth" || fail "no packet of client $p with the expected header"
		grep -q " $server.1 > " "$TMP/capboth" || fail "no packet to client $p with the expected header"
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

# A form of notifications that can be compared: by peer, without interface index, without those that carry an IPv6
# address, and without the server's of peers that were not made; on TCP without reasons, which differ with who closes
# first. The clients' own ids begin at 10, or are one of those that were made.
normal() {
	local reasons='.' made="(.msg.peer.id <= $NUM_PEERS or .msg.peer.id > 9)"
	[ "$PROTO" = UDP ] || reasons='del(.msg.peer["del-reason"])'
	echo "map(select(.msg.peer[\"remote-ipv6\"] == null and $made)" \
		"| del(.msg.ifindex) | $reasons) | sort_by(.msg.peer.id)"
}

# True when namespace $1 saw what the file $2 says.
saw() {
	jq -ne --slurpfile a "$2" --slurpfile b "$TMP/ntf$1" "(\$a | $NORMAL) == (\$b | $NORMAL)" >"$TMP/same" 2>&1
}

compare_notifications() {
	local p suffix=
	NORMAL=$(normal)
	[ "$ID_TYPE" = ASYMM ] || suffix=-symm
	if [ "$FLOAT" = 1 ]; then compare 0 "$DATA/json/peer0-float.json"; else compare 0 "$DATA/json/peer0.json"; fi
	for p in $(peers); do compare "$p" "$DATA/json/peer$p$suffix.json"; done
}

compare() {
	local end=$((SECONDS + 2 * PATIENCE))
	while ((SECONDS <= end)); do
		saw "$1" "$2" && return
		pause 0.1
	done
	diff <(jq -S -s "$NORMAL" "$2") <(jq -S -s "$NORMAL" "$TMP/ntf$1") | sed 's/^/# /'
	sed 's/^/# /' "$TMP/ntf$1.err"
	fail "notifications in namespace $1 are not those of $2"
}

#### End

# Kills the processes that hold the peers' sockets, the way a crash would.
kill_tools() {
	local p pid
	for p in 0 $(peers); do
		for pid in $(ip netns pids "$NS$p" 2>/dev/null); do
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
		[ -e "/run/netns/$NS$p" ] || [ -e "/var/run/netns/$NS$p" ] || continue
		cli "$p" del_iface "tun$p" >/dev/null 2>&1
		for pid in $(ip netns pids "$NS$p" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
		ip netns del "$NS$p" 2>/dev/null
	done
	rm -rf "$TMP"
}
