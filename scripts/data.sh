#!/bin/sh
# Downloads public image sets into data/ (or $DATA) and verifies them. Nothing
# is fetched unless a set is named; nothing else in this repository uses the
# network at run time.
#
#   scripts/data.sh                 list the sets
#   scripts/data.sh kodak cid22     download and verify these
#   scripts/data.sh -verify kodak   verify what is there, without network
#
# Kodak, McM and CID22 are verified pixel by pixel (scripts/data/*.pixels), the
# archives by the checksum their publishers state. Where none is stated the
# SHA-256 of what arrived is printed, to be compared between machines.
#
# Kodak, McM, Set5, Set14 and Urban100 are for measuring only: never train on
# them or choose by them. CID22 is CC BY-SA 4.0: credit Cloudinary.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
DATA=${DATA:-$root/data}
GO=${GO:-go}

usage() {
	cat <<TEXT
usage: scripts/data.sh [-verify] SET...
  kodak       24 photographs 768x512, measuring
  mcm         18 photographs 500x500, measuring (encrypted zip: see its page)
  set5 set14  super-resolution sets, measuring
  urban100    100 photographs of buildings, measuring
  cid22       185 photographs 512x512, training (CC BY-SA 4.0)
  div2k       800 photographs of about 2 Mpx, training (3.5 GB)
  div2k-valid 100 photographs of about 2 Mpx, validation
TEXT
}

say() { printf '%s\n' "$*"; }
die() { printf 'data.sh: %s\n' "$*" >&2; exit 1; }

fetch() { # address file: resumes nothing, replaces nothing half-way
	if [ -f "$2" ]; then say "have $2"; return; fi
	mkdir -p "$(dirname "$2")"
	say "fetching $1"
	if command -v curl >/dev/null 2>&1; then
		curl -fL --retry 3 -o "$2.part" "$1"
	elif command -v wget >/dev/null 2>&1; then
		wget -O "$2.part" "$1"
	else
		die "found neither curl nor wget"
	fi
	mv "$2.part" "$2"
}

sum() { # md5|sha256 file
	if command -v "$1sum" >/dev/null 2>&1; then "$1sum" "$2" | cut -d' ' -f1
	else openssl dgst "-$1" "$2" | sed 's/.*= *//'; fi
}

check() { # file kind expected; kind "none" prints the SHA-256
	if [ "$2" = none ]; then
		say "$1: no checksum is published; sha256 $(sum sha256 "$1")"
		return
	fi
	found=$(sum "$2" "$1")
	if [ "$found" != "$3" ]; then
		mv "$1" "$1.bad"
		die "$1: found $2 $found, expected $3 (moved to $1.bad)"
	fi
	say "$1: $2 as published"
}

unpack() { # archive dir
	mkdir -p "$2"
	case $1 in
	*.zip) command -v unzip >/dev/null 2>&1 || die "found no unzip to open $1"; unzip -qo "$1" -d "$2" ;;
	*) tar -xzf "$1" -C "$2" ;;
	esac
}

pixels() { # set dir
	(cd "$root" && $GO run ./scripts/pixelsum -check "scripts/data/$1.pixels" "$2")
}

verify_only=no
if [ "${1:-}" = -verify ]; then verify_only=yes; shift; fi
if [ "$#" -eq 0 ]; then usage; exit 0; fi

for set in "$@"; do
	case $set in
	kodak)
		if [ $verify_only = no ]; then
			i=1
			while [ $i -le 24 ]; do
				n=$(printf 'kodim%02d.png' $i)
				fetch "https://r0k.us/graphics/kodak/kodak/$n" "$DATA/kodak/$n"
				i=$((i + 1))
			done
		fi
		pixels kodak "$DATA/kodak"
		;;
	mcm)
		if [ $verify_only = no ]; then
			fetch https://www4.comp.polyu.edu.hk/~cslzhang/DATA/McM.zip "$DATA/archives/McM.zip"
			check "$DATA/archives/McM.zip" none -
			say "The zip is encrypted; https://www4.comp.polyu.edu.hk/~cslzhang/CDM_Dataset.htm says how to open it."
			say "Unpack the images into $DATA/mcm as mcm01..mcm18 (.tif or .png), then run: scripts/data.sh -verify mcm"
		else
			pixels mcm "$DATA/mcm"
		fi
		;;
	set5 | set14)
		case $set in set5) n=Set5 ;; *) n=Set14 ;; esac
		[ $verify_only = no ] || die "$set: no checksum is published, nothing to verify"
		fetch "https://raw.github.com/IsaacCorley/pytorch-enhance/master/datasets/$n.zip" "$DATA/archives/$n.zip"
		check "$DATA/archives/$n.zip" none -
		unpack "$DATA/archives/$n.zip" "$DATA/$set"
		;;
	urban100 | div2k | div2k-valid)
		case $set in
		urban100)
			url='https://huggingface.co/datasets/eugenesiow/Urban100/resolve/main/data/Urban100_HR.tar.gz?download=true'
			file=Urban100_HR.tar.gz md5=65d9d84a34b72c6f7ca1e26a12df1e4c ;;
		div2k)
			url=http://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip
			file=DIV2K_train_HR.zip md5=bdc2d9338d4e574fe81bf7d158758658 ;;
		*)
			url=http://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip
			file=DIV2K_valid_HR.zip md5=9fcdda83005c5e5997799b69f955ff88 ;;
		esac
		if [ $verify_only = no ]; then fetch "$url" "$DATA/archives/$file"; fi
		[ -f "$DATA/archives/$file" ] || die "$DATA/archives/$file: not found"
		check "$DATA/archives/$file" md5 $md5
		if [ $verify_only = no ]; then unpack "$DATA/archives/$file" "$DATA/$set"; fi
		;;
	cid22)
		if [ $verify_only = no ]; then
			repo=$DATA/archives/codec-corpus
			commit=55decfe8
			if [ ! -d "$repo" ]; then
				git clone --filter=blob:none --no-checkout https://github.com/imazen/codec-corpus "$repo"
			fi
			mkdir -p "$DATA/cid22"
			# Only the images of the list: the set also holds plots and clip art.
			git -C "$repo" ls-tree -r --name-only "$commit" | grep '^CID22/.*\.png$' >"$DATA/archives/cid22.files"
			while read -r _ name; do
				path=$(grep "/$name\.png\$" "$DATA/archives/cid22.files" | head -n 1)
				[ -n "$path" ] || die "codec-corpus $commit: found no image $name under CID22"
				[ -f "$DATA/cid22/$name.png" ] && continue
				git -C "$repo" show "$commit:$path" >"$DATA/cid22/$name.png.part"
				mv "$DATA/cid22/$name.png.part" "$DATA/cid22/$name.png"
			done <"$root/scripts/data/cid22.pixels"
		fi
		pixels cid22 "$DATA/cid22"
		;;
	*)
		usage >&2
		die "found set $set, expected one of the above"
		;;
	esac
done
