# Runs in the guest: tests of one kernel. $1: ovpn or dco-v2; $2: only tests whose names contain this; the rest: groups
# of tests, as BEGINNING=HOW MANY AT ONCE.
kernel=$1 filter=$2
shift 2
export OVPN_PATIENCE=8 OVPN_LAB=/tmp/lab TMPDIR=/tmp
mkdir $OVPN_LAB
cp -r ovpn tests ovpn_cli $OVPN_LAB/
[[ $kernel == ovpn ]] || cp -r stock-2.6.14 $OVPN_LAB/
cd $OVPN_LAB
modprobe -a veth nf_tables
if [[ $kernel == ovpn ]]; then modprobe ovpn; else modprobe ovpn-dco-v2; fi
status=0
./tests --ignored --list 2>/dev/null | sed -n "s/: test$//p" | grep -F -- "$filter" >list

for group; do
	mapfile -t names < <(grep "^${group%=*}" list)
	# Measurements are made by name only.
	[[ -n ${names[*]} && ($group != speed::* || -n $filter) ]] || continue
	started=$EPOCHSECONDS
	./tests --ignored --test-threads="${group#*=}" --nocapture --exact "${names[@]}" || status=1
	echo "== ${group%=*} took $((EPOCHSECONDS - started)) s"
done
exit $status
