#!/bin/busybox sh
# What netwatch watches in the virtual machine: downloads by both families, and echo requests.
set -e
for server in 198.51.100.10 '[2001:db8::10]'; do
    test "$(wget -q -O - "http://$server/blob" | wc -c)" = 1000000
done
ping -q -c 2 198.51.100.10 >/dev/null
