#!/bin/busybox sh
# The kernel calls it when something asks for a module. Two may ask at once: the second must not go on before the module is there, and
# busybox takes one that is still being loaded for loaded. Only these are waited for: a module that asks for another is itself still being
# loaded until it has it.
modules=$(/bin/busybox modprobe -D "$@" | sed -n 's|.*/\([^/]*\)\.ko.*|\1|p' | tr - _)
/bin/busybox modprobe "$@"
code=$?
for module in $modules; do
    while grep -q "^$module .* Loading " /proc/modules; do
        usleep 10000
    done
done
exit $code
