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
# them or choose by them, nor on the test parts of MNIST, Fashion-MNIST and
# CIFAR. CID22 is CC BY-SA 4.0: credit Cloudinary. CIFAR: cite Krizhevsky 2009.
#
# gotext needs no network: it makes a text of about 2.4 MB from the sources of
# the standard library on this machine (the packages of gotext_packages, their
# .go files that are no tests, in the order of their paths). Printable ASCII, tab
# and newline stay, carriage returns go, and every other character becomes the
# one control character SUB: 98 symbols. Another version of Go gives another
# text; gotext.from says which it was.
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
  mnist       60000 + 10000 digits 28x28 (12 MB)
  fashion-mnist  60000 + 10000 pieces of clothing 28x28 (31 MB)
  cifar10     50000 + 10000 photographs 32x32, 10 classes (170 MB)
  cifar100    50000 + 10000 photographs 32x32, 100 classes (169 MB)
  gotext      Go's standard library as a text of 98 symbols (made here)
TEXT
}

say() { printf '%s\n' "$*"; }
die() { printf 'data.sh: %s\n' "$*" >&2; exit 1; }

fetch() { # address file: resumes nothing, replaces nothing half-way
	if [ -f "$2" ]; then say "have $2"; return; fi
	mkdir -p "$(dirname "$2")"
	say "fetching $1"
	if command -v curl >/dev/null 2>&1; then
		curl -fL --retry 3 -o "$2.part" "$1" || return 1
	elif command -v wget >/dev/null 2>&1; then
		wget -O "$2.part" "$1" || return 1
	else
		die "found neither curl nor wget"
	fi
	mv "$2.part" "$2"
}

fetch_any() { # file address...: the first that answers
	file=$1
	shift
	for address in "$@"; do
		if fetch "$address" "$file"; then return; fi
	done
	die "$file: found none of the addresses answering: $*"
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
		[ $verify_only = no ] || die "$1: found $2 $found, expected $3"
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

present() { [ -f "$1" ] || die "$1: not found"; }

idx() { # dir md5 x 4, then the addresses of the folder: the files of MNIST and its likes
	dir=$1 md5s="$2 $3 $4 $5"
	shift 5
	for name in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
		file=$dir/$name.gz
		if [ $verify_only = no ]; then
			addresses=
			for a in "$@"; do addresses="$addresses $a/$name.gz"; done
			# shellcheck disable=SC2086 # addresses hold no spaces
			fetch_any "$file" $addresses
		fi
		present "$file"
		check "$file" md5 "${md5s%% *}"
		md5s=${md5s#* }
	done
}

cifar() { # set archive md5 folder-in-archive files...: unpacked into $DATA/set
	dir=$DATA/$1 archive=$DATA/archives/$2 md5=$3 inside=$4
	shift 4
	if [ $verify_only = no ]; then
		fetch "https://www.cs.toronto.edu/~kriz/${archive##*/}" "$archive"
		check "$archive" md5 "$md5"
		rm -rf "$dir.part"
		unpack "$archive" "$dir.part"
		mkdir -p "$dir"
		for name in "$@"; do
			present "$dir.part/$inside/$name"
			say "$(sum md5 "$dir.part/$inside/$name")  $name" >>"$dir.part/MD5SUMS"
			mv "$dir.part/$inside/$name" "$dir/$name"
		done
		mv "$dir.part/MD5SUMS" "$dir/MD5SUMS"
		rm -rf "$dir.part"
		say "$dir: unpacked"
		return
	fi
	# The publisher's checksum covers the archive. Of the unpacked files what
	# was written down when they left it is compared.
	if [ -f "$archive" ]; then check "$archive" md5 "$md5"; fi
	for name in "$@"; do
		present "$dir/$name"
		case $name in
		*.bin) # whole records
			case $inside in *100*) record=3074 ;; *) record=3073 ;; esac
			bytes=$(($(wc -c <"$dir/$name")))
			[ $bytes -gt 0 ] && [ $((bytes % record)) -eq 0 ] || die "$dir/$name: found $bytes bytes, expected a multiple of $record"
			;;
		esac
		if [ -f "$dir/MD5SUMS" ]; then
			want=$(awk -v name="$name" '$2 == name { print $1 }' "$dir/MD5SUMS")
			found=$(sum md5 "$dir/$name")
			[ "$found" = "$want" ] || die "$dir/$name: found md5 $found, expected ${want:-one in MD5SUMS}"
			say "$dir/$name: md5 as in the archive"
		else
			say "$dir/$name: whole records or text; no MD5SUMS to compare with"
		fi
	done
}

gotext_packages='archive bufio bytes compress container context database embed
errors expvar flag fmt hash image io iter log maps mime path reflect regexp
slices sort strconv strings sync text'

gotext() { # file: writes the text
	src=$($GO env GOROOT)/src
	for p in $gotext_packages; do
		[ -d "$src/$p" ] || die "$src/$p: not found, expected a package of the standard library"
	done
	# shellcheck disable=SC2086 # a list
	(cd "$src" && find $gotext_packages -type f -name '*.go' ! -name '*_test.go' ! -path '*/testdata/*' |
		LC_ALL=C sort | xargs cat) |
		LC_ALL=C tr -d '\200-\277\015' | # all but the first byte of a character
		LC_ALL=C tr '\000-\010\013\014\016-\037\177\300-\377' '[\032*]' >"$1"
}

symbols() { # file: how many different bytes it has
	od -An -v -tu1 "$1" | awk '{ for (i = 1; i <= NF; i++) if (!($i in seen)) { seen[$i]; n++ } } END { print n + 0 }'
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
	mnist)
		idx "$DATA/mnist" f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 \
			9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c \
			https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist
		;;
	fashion-mnist)
		idx "$DATA/fashion-mnist" 8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe \
			bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310 \
			http://fashion-mnist.s3-website.eu-central-1.amazonaws.com
		if [ $verify_only = no ]; then # the files do not hold the names
			printf '%s\n' T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag 'Ankle boot' >"$DATA/fashion-mnist/classes.txt"
		fi
		;;
	cifar10)
		cifar cifar10 cifar-10-binary.tar.gz c32a1d4ab5d03f1284b67883e8d87530 cifar-10-batches-bin \
			data_batch_1.bin data_batch_2.bin data_batch_3.bin data_batch_4.bin data_batch_5.bin test_batch.bin batches.meta.txt
		;;
	cifar100)
		cifar cifar100 cifar-100-binary.tar.gz 03b5dce01913d631647c71ecec9e9cb8 cifar-100-binary \
			train.bin test.bin fine_label_names.txt coarse_label_names.txt
		check "$DATA/cifar100/train.bin" md5 6172c7755cfe09b2fe270c85cebc1b15
		check "$DATA/cifar100/test.bin" md5 4499cfba6c016c1be1438163640a0898
		;;
	gotext)
		text=$DATA/gotext/gotext.txt from=$DATA/gotext/gotext.from
		version=$($GO env GOVERSION)
		if [ $verify_only = no ]; then
			mkdir -p "$DATA/gotext"
			gotext "$text.part"
			mv "$text.part" "$text"
			say "$version sha256 $(sum sha256 "$text")" >"$from"
		fi
		present "$text"
		present "$from"
		n=$(symbols "$text")
		[ "$n" -ge 2 ] && [ "$n" -le 98 ] || die "$text: found $n symbols, expected at most 98"
		found=$(sum sha256 "$text")
		case $(cat "$from") in
		*" sha256 $found") ;;
		*) die "$text: found sha256 $found, expected what $from says: $(cat "$from")" ;;
		esac
		if [ $verify_only = yes ] && [ "$(cut -d' ' -f1 <"$from")" = "$version" ]; then
			again=$(mktemp)
			gotext "$again"
			cmp -s "$again" "$text" || { rm -f "$again"; die "$text: found another text than $version gives here"; }
			rm -f "$again"
		fi
		say "$text: $(($(wc -c <"$text"))) bytes, $n symbols, from $(cat "$from")"
		;;
	*)
		usage >&2
		die "found set $set, expected one of the above"
		;;
	esac
done
