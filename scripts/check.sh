#!/bin/sh
# House rules that need no test to run: import directions, formatting, vet, and
# generated code equal to what its generators write. Prints one line per check
# and exits 1 if any failed.
set -u
cd "$(dirname "$0")/.." || exit 1
GO=${GO:-go}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0

report() { # name status [file with details]
	printf '%-16s %s\n' "$1" "$2"
	if [ "$#" -gt 2 ]; then sed 's/^/    /' "$3"; fi
}

verdict() { # name exit-code: details are in $tmp/out
	if [ "$2" -eq 0 ]; then
		report "$1" ok
	else
		report "$1" FAILED "$tmp/out"
		failed=1
	fi
}

$GO run ./scripts/check-imports >"$tmp/out" 2>&1
verdict imports $?

git ls-files -co --exclude-standard -- '*.go' | while IFS= read -r f; do
	if [ -f "$f" ]; then printf '%s\n' "$f"; fi
done >"$tmp/files"
xargs "$($GO env GOROOT)/bin/gofmt" -l <"$tmp/files" >"$tmp/out" 2>&1
status=$?
if [ -s "$tmp/out" ]; then status=1; fi
verdict gofmt $status

$GO vet ./... >"$tmp/out" 2>&1
verdict vet $?

# Generated assembly: run the generators into an empty folder and compare.
if [ ! -x pkg/kernel/generate.sh ] && [ ! -f pkg/kernel/generate.sh ]; then
	report generated "skipped: no generator in this tree"
elif ! (cd pkg/kernel/_gen && $GO mod download) >"$tmp/out" 2>&1; then
	report generated "skipped: the generator's modules cannot be downloaded" "$tmp/out"
else
	mkdir "$tmp/gen"
	if ! sh pkg/kernel/generate.sh "$tmp/gen" >"$tmp/out" 2>&1; then
		verdict generated 1
	else
		status=0
		: >"$tmp/out"
		for f in "$tmp"/gen/*; do
			name=$(basename "$f")
			if ! cmp -s "$f" "pkg/kernel/$name"; then
				echo "pkg/kernel/$name differs from what its generator writes: run 'make generate'" >>"$tmp/out"
				status=1
			fi
		done
		# And nothing that claims to be generated without a generator.
		for f in $(grep -l '^// Code generated' pkg/kernel/*.s pkg/kernel/*.go 2>/dev/null); do
			if [ ! -f "$tmp/gen/$(basename "$f")" ]; then
				echo "$f says it is generated, but no generator writes it" >>"$tmp/out"
				status=1
			fi
		done
		verdict generated $status
	fi
fi

exit $failed
