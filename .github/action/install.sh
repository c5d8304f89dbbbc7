#!/usr/bin/env bash
# Downloads the static netwatch of a release, verifies its checksum, and puts it on the PATH of the
# next steps. RELEASES: the address of the releases. VERSION: a tag, or `latest`.
set -euo pipefail

case $VERSION in
    latest) release=$RELEASES/latest/download ;;
    *) release=$RELEASES/download/$VERSION ;;
esac

folder=$RUNNER_TEMP/netwatch
mkdir -p "$folder"
cd "$folder"
download() { curl --fail --silent --show-error --location --retry 3 --output "$1" "$release/$1"; }

download SHA256SUMS
archive=$(awk '$2 ~ /-x86_64-unknown-linux-musl\.tar\.gz$/ { print $2 }' SHA256SUMS)
if [[ ! $archive =~ ^netwatch-[0-9A-Za-z_.+-]+$ ]]; then
    echo "::error::the release $VERSION has no netwatch for x86-64"
    exit 1
fi
download "$archive"
# Exits with 1 if no file of the list exists.
sha256sum --check --quiet --ignore-missing SHA256SUMS
tar --extract --gzip --strip-components=1 --no-same-owner --file "$archive"
./netwatch --version
echo "$folder" >> "$GITHUB_PATH"
