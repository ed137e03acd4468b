#!/bin/sh
# Builds the specimen guest: `build.sh [output]`, by default the committed binary in the package, and then notes in
# built-with what with. gcc and binutils only. `build.sh --tools` says which versions there are.
# The same tools make the same bytes: no build id, no time stamp, no path, no comment section.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/../../python/belljar/specimen.elf}
tools="gcc $(${CC:-gcc} -dumpfullversion), ld $(ld --version | sed -n '1s/.* //p')"
if [ "$output" = --tools ]; then
	echo "$tools"
	exit
fi
case $output in /*) ;; *) output=$PWD/$output ;; esac
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
cd "$here"

export LC_ALL=C
FLAGS="-std=gnu11 -O2 -march=x86-64 -mtune=generic -ffreestanding -fno-builtin -nostdlib -fno-pic -fno-pie -mcmodel=small
	-mno-red-zone -mgeneral-regs-only -mno-sse -mno-mmx -mno-80387 -fno-stack-protector -fcf-protection=none
	-fno-asynchronous-unwind-tables -fno-unwind-tables -fno-tree-loop-distribute-patterns -fno-strict-aliasing
	-fno-delete-null-pointer-checks -fno-ident -frandom-seed=specimen -g0 -Wall -Wextra -Werror"
parts=
for part in kernel/entry.S kernel/tables.S kernel/*.c user/*.c; do
	object=$(echo "${part%.*}.o" | tr / .)
	# shellcheck disable=SC2086 # flags are words
	${CC:-gcc} $FLAGS -c "$part" -o "$objects/$object"
	parts="$parts $object"
done
${CC:-gcc} -E -P -x assembler-with-cpp specimen.ld -o "$objects/specimen.ld"
cd "$objects"
# shellcheck disable=SC2086 # parts are words
ld -nostdlib -static --build-id=none -z max-page-size=4096 -z noexecstack --orphan-handling=error -T specimen.ld \
	$parts -o specimen.elf
objcopy --strip-debug --remove-section=.comment specimen.elf
cp specimen.elf "$output"
chmod 644 "$output"
[ $# -gt 0 ] || echo "$tools" >"$here/built-with"
