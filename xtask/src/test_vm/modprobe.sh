#!/bin/busybox sh
# The kernel calls it when something asks for a module. Two may ask at once: the second must not go on before the module is there, and
# busybox takes one that is still being loaded for loaded.
/bin/busybox modprobe "$@"
code=$?
while grep -q ' Loading ' /proc/modules; do
    usleep 10000
done
exit $code
