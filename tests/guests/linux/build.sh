#!/usr/bin/env bash
# Builds the Linux test guest (vmlinux, initrd.cpio) from Debian's unpatched linux-source package and busybox-static.
# The result is cached outside the tree, keyed by everything that goes into it. Prints the folder it is in.
#   build.sh          build if the cache has none
#   build.sh --where  only print where it is, or would be
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${BELLJAR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/belljar}
source=${LINUX_SOURCE:-/usr/src/linux-source-6.1.tar.xz}
busybox=${BUSYBOX:-/bin/busybox}
fragments=("$here"/base.config "$here"/mini.config "$here"/fast.config)

key=$( { dpkg-query -W -f '${Version}\n' linux-source-6.1 busybox-static gcc 2>/dev/null || true
         cat "$here/build.sh" "$here/init.c" "${fragments[@]}"; } | sha256sum | cut -c1-16)
out=$cache/linux-guest/$key
if [[ ${1:-} == --where ]]; then echo "$out"; exit 0; fi
if [[ -f $out/vmlinux && -f $out/initrd.cpio ]]; then echo "$out"; exit 0; fi
[[ -f $source ]] || { echo "linux-guest: no $source (package linux-source-6.1)" >&2; exit 1; }
[[ -x $busybox ]] || { echo "linux-guest: no $busybox (package busybox-static)" >&2; exit 1; }

mkdir -p "$cache"
work=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$work"' EXIT
say() { echo "linux-guest: $*" >&2; }

say "unpacking $source"
tar -xf "$source" -C "$work" --strip-components=1 --one-top-level=linux
mkdir "$work/obj"
kernel() { make -C "$work/linux" O="$work/obj" ARCH=x86_64 -s "$@" >>"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }; }
kernel tinyconfig
(cd "$work/linux" && scripts/kconfig/merge_config.sh -m -O "$work/obj" "$work/obj/.config" "${fragments[@]}") >>"$work/log" 2>&1
kernel olddefconfig
say "compiling the kernel (about 3 minutes on 2 cores)"
kernel -j"$(nproc)" vmlinux

say "packing the initrd"
mkdir -p "$work/root/bin" "$work/out"
gcc -O2 -static -nostdlib -fno-stack-protector -fno-asynchronous-unwind-tables -Wl,--build-id=none -s -o "$work/root/init" "$here/init.c"
cp "$busybox" "$work/root/bin/busybox"
for applet in sh ls cat echo ps uname dmesg mount reboot date sleep head tail grep free id; do
	ln -s busybox "$work/root/bin/$applet"
done
(cd "$work/root" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc --owner 0:0 --reproducible) >"$work/out/initrd.cpio"
strip -o "$work/out/vmlinux" "$work/obj/vmlinux"
cp "$work/obj/.config" "$work/out/config"
cp "$work/obj/System.map" "$work/out/System.map"
mkdir -p "$(dirname "$out")"
rm -rf "$out"
mv "$work/out" "$out"
say "built in $out"
echo "$out"
