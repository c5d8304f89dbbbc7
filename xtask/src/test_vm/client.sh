#!/bin/busybox sh
# The command that netwatch runs in the virtual machine: downloads by both address families, and
# echo requests. These take 3 seconds, after which the kernel has sent all its multicast reports:
# before Linux 6.11 the balance does not close if one arrives while the link goes down
# (docs/limits.md).
set -e
# Sets the wall clock ahead while netwatch runs: no duration may contain that hour.
date -s "@$(($(date +%s) + 3600))" >/dev/null
for server in 198.51.100.10 '[2001:db8::10]'; do
    test "$(wget -q -O - "http://$server/blob" | wc -c)" = 1000000
done
ping -q -c 4 198.51.100.10 >/dev/null
