#!/usr/bin/env bash
# Makes a guest for the kernel lab whose kernel has the driver ovpn-dco-v2: Debian 13's own kernel 6.12, and the module
# built from Debian's openvpn-dco-dkms for it. The rest is the lab's own guest.
#
#   dco-v2-guest.sh LAB_CACHE OUT     LAB_CACHE: where `lab setup` put its guest (~/.cache/kernel-lab)
#                                     OUT: becomes a KERNEL_LAB_DIR of its own; nothing is done where it is ready
#
# Needs apt, dpkg-deb, debugfs and mke2fs, depmod, gcc and make. Downloads 50 MB from the mirror that the lab uses.
set -euo pipefail
shopt -s nullglob

lab=$1 out=$2
ready=("$out"/kernels/*/packages)
if ((${#ready[@]})); then
	exit 0
fi
base=$(printf '%s\n' "$lab"/kernels/*/root.img | sort -V | tail -1)
[[ -f $base ]] || { echo "the lab has no guest yet: run lab setup" >&2; exit 1; }

rm -rf "$out"
mkdir -p "$out/apt"
cp -r "$lab"/apt/. "$out/apt/"

# apt with the lab's sources and lists, and a package database of its own.
private_apt() {
	"$1" -qq -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
		-o APT::Default-Release=trixie -o Acquire::Languages=none -o Debug::NoLocking=true \
		-o Dir::Etc::sourcelist="$out/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State::Lists="$out/apt/lists" -o Dir::State::status="$out/apt/status" \
		-o Dir::State::extended_states="$out/apt/extended_states" -o Dir::Cache="$out/apt/cache" "${@:2}"
}

private_apt apt-get update
release=$(private_apt apt-cache pkgnames linux-image-6.12 |
	sed -En 's/^linux-image-([0-9].*)-cloud-amd64$/\1/p' | sort -V | tail -1)
[[ -n $release ]] || { echo "the mirror has no kernel 6.12" >&2; exit 1; }
version=$release-cloud-amd64

tree=$out/tree sources=$out/sources
mkdir -p "$out/debs" "$tree" "$sources"
(cd "$out/debs" && private_apt apt-get download "linux-image-$version" "linux-headers-$version" \
	"linux-headers-$release-common" "linux-kbuild-$release" openvpn-dco-dkms/trixie)
for deb in "$out"/debs/*.deb; do
	dpkg-deb -x "$deb" "$sources"
done

# The module. The headers name their places absolutely, and a compiler that this machine need not have.
headers=$sources/usr/src/linux-headers-$version
echo "include $sources/usr/src/linux-headers-$release-common/Makefile" >"$headers/Makefile"
rm -f "$headers/vmlinux" # no BTF, which would need pahole
sed -i 's/gcc-[0-9]*$/gcc/' "$headers/.kernelvariables"
if ! gcc -fmin-function-alignment=16 -E -x c /dev/null >/dev/null 2>&1; then
	sed -i '/^CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=/d' "$headers/include/config/auto.conf"
fi
# The build's own programs want the guest's C library, which may be newer than this machine's.
debugfs -R "rdump / $tree" "$base" 2>/dev/null
libraries=$tree/usr/lib/x86_64-linux-gnu
while read -r program; do
	[[ $("$program" </dev/null 2>&1 || true) == *"GLIBC_"*"not found"* ]] || continue
	mv "$program" "$program.elf"
	printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' \
		"$libraries/ld-linux-x86-64.so.2" "$libraries" "$program.elf" >"$program"
	chmod +x "$program"
done < <(find "$sources"/usr/lib/linux-kbuild-* -type f -perm -100)
module=$(echo "$sources"/usr/src/ovpn-dco-*)
make -s -j"$(nproc)" -C "$module" VER="$version" KERNEL_SRC="$headers" REVISION="${module##*/ovpn-dco-}" >"$out/make.log" 2>&1 ||
	{ tail -20 "$out/make.log" >&2; exit 1; }

# The guest: the lab's, with this kernel's modules in the place of its own.
rm -rf "$tree"/usr/lib/modules/*
cp -r "$sources/usr/lib/modules/$version" "$tree/usr/lib/modules/"
rm -f "$tree/usr/lib/modules/$version"/{build,source}
mkdir "$tree/usr/lib/modules/$version/updates"
cp "$module/drivers/net/ovpn-dco/ovpn-dco-v2.ko" "$tree/usr/lib/modules/$version/updates/"
strip --strip-debug "$tree/usr/lib/modules/$version/updates/ovpn-dco-v2.ko"
depmod -b "$tree" "$version"
rm -rf "$tree/lost+found"
kernel=$out/kernels.new/$release
mkdir -p "$kernel"
cp "$sources/boot/vmlinuz-$version" "$kernel/vmlinuz"
mke2fs -qF -t ext4 -O ^has_journal -E root_owner=0:0 -d "$tree" "$kernel/root.img" 2G >/dev/null
dpkg-deb -f "$out"/debs/openvpn-dco-dkms_*.deb Package Version >"$kernel/packages"
rm -rf "$out"/{debs,sources,tree,apt}
mv "$out/kernels.new" "$out/kernels"
