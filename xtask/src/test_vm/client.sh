#!/bin/busybox sh
# What netwatch watches in the virtual machine: downloads by both families, and echo requests. These take 3 seconds, after which the
# kernel has sent all its multicast reports: before Linux 6.11 the balance does not close if one meets the link going down (docs/limits.md).
set -e
# The clock of the day is stepped while netwatch runs: durations must not have that hour.
date -s "@$(($(date +%s) + 3600))" >/dev/null
for server in 198.51.100.10 '[2001:db8::10]'; do
    test "$(wget -q -O - "http://$server/blob" | wc -c)" = 1000000
done
ping -q -c 4 198.51.100.10 >/dev/null
