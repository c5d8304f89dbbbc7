//! Whether the kernel takes the classifier and lets it be attached: `run`'s own is loaded and attached, to the loopback interface of a
//! namespace of its own.

use std::path::Path;

use nix::errno::Errno;

use super::Finding;
use crate::error::{Error, Result};
use crate::host::namespace;
use crate::meter::{AttachMethod, KernelMeter, KernelMeterConfig};

/// The `lo` of every network namespace.
const LOOPBACK: u32 = 1;

/// The findings, and what the classifier's maps take of the kernel's memory at the defaults, in bytes.
pub(super) fn all() -> (Vec<Finding>, Option<u64>) {
    match KernelMeter::load(&KernelMeterConfig::default()) {
        Ok(probe) => {
            let (maps, loads) = (probe.memory_bytes().ok(), loads(&probe));
            (vec![loads, btf(), attach(probe)], maps)
        }
        Err(error) => {
            let attach = Finding::fail("attach", "not tried, because the classifier does not load", "see bpf");
            (vec![Finding::fail("bpf", error.to_string(), advice(&error)), btf(), attach], None)
        }
    }
}

/// What a table full of flows would take, too: it grows with them.
fn loads(probe: &KernelMeter) -> Finding {
    let config = KernelMeterConfig::default();
    let full = probe.full_memory_bytes(&config).map_or_else(
        |error| error.to_string(),
        |bytes| {
            format!("{} MiB of kernel maps with all {} flows of --max-flows", bytes.div_ceil(1 << 20), config.max_flows)
        },
    );
    Finding::ok("bpf", format!("the classifier loads; {full}"))
}

fn advice(error: &Error) -> &'static str {
    match error.errno() {
        Some(Errno::EPERM) => {
            "needs CAP_BPF and CAP_NET_ADMIN: run with sudo; in a container the seccomp profile must allow bpf(2) (see also kernel lockdown)"
        }
        Some(Errno::ENOSYS) => "needs a kernel with CONFIG_BPF_SYSCALL",
        _ => "see the kernel log",
    }
}

fn btf() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    match Path::new(path).exists() {
        true => Finding::ok("btf", path),
        false => Finding::warn(
            "btf",
            format!("{path} is not there"),
            "run works; tracing needs a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

/// Once as `run` does it, and once by the way that it did not choose.
fn attach(probe: KernelMeter) -> Finding {
    let used = attached(probe);
    let other = used.as_ref().ok().map(|used| {
        let methods: &[AttachMethod] = match used {
            AttachMethod::Clsact => &[AttachMethod::Tcx],
            AttachMethod::Tcx => &[AttachMethod::Clsact],
        };
        KernelMeter::load(&KernelMeterConfig { methods, ..KernelMeterConfig::default() }).and_then(attached)
    });
    judge(used, other)
}

fn attached(mut probe: KernelMeter) -> Result<AttachMethod> {
    namespace::in_new(|| {
        probe.attach_link(LOOPBACK)?;
        probe.method().ok_or_else(|| Error::said("attach", "the classifier", "it is attached nowhere"))
    })?
}

fn judge(used: Result<AttachMethod>, other: Option<Result<AttachMethod>>) -> Finding {
    match (used, other) {
        (Ok(used), Some(Err(error))) => {
            Finding::ok("attach", format!("by {}; the other way does not work here: {error}", word(used)))
        }
        (Ok(used), other) => {
            let too = other.and_then(Result::ok).map(|other| format!("; {} works too", word(other)));
            Finding::ok("attach", format!("by {}{}", word(used), too.unwrap_or_default()))
        }
        (Err(error), _) => {
            let advice = match error.errno() {
                Some(Errno::EPERM) => advice(&error),
                _ => {
                    "load the modules sch_ingress and cls_bpf, or use a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF, or Linux 6.6 with tcx"
                }
            };
            Finding::fail("attach", error.to_string(), advice)
        }
    }
}

fn word(method: AttachMethod) -> &'static str {
    match method {
        AttachMethod::Clsact => "clsact",
        AttachMethod::Tcx => "tcx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn refused() -> Result<AttachMethod> {
        Err(Error::os("attach classifier to", "interface 1", Errno::EINVAL))
    }

    #[test]
    fn says_what_run_uses_and_whether_the_other_works() {
        let line = |used, other| judge(used, other).to_string();
        assert_eq!(
            line(Ok(AttachMethod::Clsact), Some(Ok(AttachMethod::Tcx))),
            "ok    attach: by clsact; tcx works too"
        );
        let before_6_6 = line(Ok(AttachMethod::Clsact), Some(refused()));
        assert!(before_6_6.starts_with("ok    attach: by clsact; the other way does not work here: "), "{before_6_6}");
        assert!(before_6_6.contains("EINVAL"), "{before_6_6}");
        assert!(line(Ok(AttachMethod::Tcx), Some(refused())).starts_with("ok    attach: by tcx; "));
        assert_eq!(judge(refused(), None).level, Level::Fail);
    }

    #[test]
    fn tries_both_ways_to_attach() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to load a classifier");
            return;
        }
        let (findings, maps) = all();
        assert!(findings.iter().all(|finding| finding.level != Level::Fail), "{findings:?}");
        assert!(maps.is_some_and(|bytes| bytes > 0));
    }
}
