//! Cgroups, namespaces and `/run`.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access};

use super::Finding;
use crate::host::{cgroup, namespace};

pub(super) fn cgroup() -> Finding {
    let advice = "run works; processes are found by their parent instead, slower at the end";
    match cgroup::own() {
        Ok(path) => match access(&path, AccessFlags::W_OK) {
            Ok(()) => Finding::ok("cgroup", format!("v2 at {}", path.display())),
            Err(errno) => Finding::warn("cgroup", format!("{} is not writable: {errno}", path.display()), advice),
        },
        Err(reason) => Finding::warn("cgroup", reason, advice),
    }
}

pub(super) fn namespaces() -> Finding {
    let tried = namespace::in_new(|| unshare(CloneFlags::CLONE_NEWNS));
    let failed = |cause: String| {
        Finding::fail(
            "namespaces",
            cause,
            "run with sudo; in a container, with CAP_SYS_ADMIN and a seccomp profile that allows unshare(2)",
        )
    };
    match tried {
        Ok(Ok(())) => Finding::ok("namespaces", "network and mount namespaces can be made"),
        Ok(Err(errno)) => failed(format!("cannot make a mount namespace: {errno}")),
        Err(error) => failed(error.to_string()),
    }
}

pub(super) fn run_directory() -> Finding {
    match access("/run", AccessFlags::W_OK) {
        Ok(()) => Finding::ok("/run", "writable"),
        Err(errno) => Finding::fail(
            "/run",
            format!("not writable: {errno}"),
            "run with sudo; mount a tmpfs there if it is read-only",
        ),
    }
}
