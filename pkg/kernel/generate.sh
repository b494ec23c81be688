#!/bin/sh
# Runs every assembly generator under _gen. The program _gen/NAME writes
# NAME_amd64.s and NAME_stubs_amd64.go beside this script. The output depends on
# the generators alone, so a second run changes nothing; a directory given as
# first argument receives the files instead (to compare them).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
mkdir -p "$out"
out=$(cd "$out" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$here/_gen"
for dir in */; do
	name=${dir%/}
	[ -f "$name/main.go" ] || continue
	go build -o "$tmp/$name" "./$name"
	# The command line is part of the header avo writes: keep it free of paths.
	(
		cd "$tmp"
		PATH="$tmp:$PATH" "$name" -out "${name}_amd64.s" -stubs "${name}_stubs_amd64.go" -pkg kernel
	)
	mv "$tmp/${name}_amd64.s" "$tmp/${name}_stubs_amd64.go" "$out/"
done
