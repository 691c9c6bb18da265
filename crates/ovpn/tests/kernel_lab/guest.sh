# Runs in the guest: the tests of one kernel. $1: ovpn or dco-v2; $2: only tests whose names contain this.
kernel=$1 filter=${2:-}
export OVPN_PATIENCE=8 OVPN_LAB=/tmp/lab TMPDIR=/tmp
mkdir $OVPN_LAB
cp -r ovpn tests ovpn_cli $OVPN_LAB/
cd $OVPN_LAB
modprobe -a veth nf_tables
status=0 ran=

# Runs the tests whose names begin with $1, $2 at a time.
run() {
	local started=$EPOCHSECONDS
	./tests --ignored --list 2>/dev/null | sed -n "s/: test$//; /^$1/p" | grep -F -- "$filter" >list
	if [[ -s list ]]; then
		ran=1
		mapfile -t names <list
		./tests --ignored --test-threads="$2" --nocapture --exact "${names[@]}" || status=1
		echo "== $1 took $((EPOCHSECONDS - started)) s"
	fi
}

if [[ $kernel == ovpn ]]; then
	modprobe ovpn
	run driver:: 1
	run scenario:: 3
	run tunnel:: 2
	run life:: 2
	[[ -z $filter ]] || run speed:: 1
else
	cp -r /mnt/host/stock-2.6.14 .
	modprobe ovpn-dco-v2
	run v2:: 2
fi
[[ $ran ]] || { echo "no test is called *$filter*"; exit 1; }
exit $status
