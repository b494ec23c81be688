#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME each, stopping at the first
# failure. Arguments are packages; none means all.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
FUZZTIME=${FUZZTIME:-30s}
[ "$#" -gt 0 ] || set -- ./...
found=0
for pkg in $($GO list "$@"); do
	for target in $($GO test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		found=$((found + 1))
		echo "== $pkg $target"
		$GO test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$pkg"
	done
done
echo "$found fuzz targets"
