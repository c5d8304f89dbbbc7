#!/bin/busybox sh
# The kernel runs this when a module is requested. Two requests may come at once: the second must
# not return before the module is loaded, and busybox treats a module that is still loading as
# loaded. Only the requested modules are waited for: one that requests another is itself loading
# until that is done.
modules=$(/bin/busybox modprobe -D "$@" | sed -n 's|.*/\([^/]*\)\.ko.*|\1|p' | tr - _)
/bin/busybox modprobe "$@"
code=$?
for module in $modules; do
    while grep -q "^$module .* Loading " /proc/modules; do
        usleep 10000
    done
done
exit $code
