//! Loads the programs of `run` into the kernel, and attaches the classifier to the loopback
//! interface of a new network namespace.

use std::path::Path;

use nix::errno::Errno;

use super::Check;
use crate::error::{Error, Result};
use crate::host::namespace;
use crate::meter::{AttachMethod, Hooks, KernelMeter, KernelMeterConfig, ProcessTracer, ProcessTracerConfig};

/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// The checks, and the kernel memory of the classifier's maps with default settings, in bytes.
pub(super) fn classifier() -> (Vec<Check>, Option<u64>) {
    match KernelMeter::load(&KernelMeterConfig::default()) {
        Ok(meter) => {
            let (maps, loaded) = (meter.memory_bytes().ok(), loaded(&meter));
            (vec![loaded, btf(), attach(meter), cgroups()], maps)
        }
        Err(error) => {
            let attach = Check::fail("attach", "not checked, because the classifier does not load", "see bpf");
            (vec![Check::fail("bpf", error.to_string(), advice(&error)), btf(), attach], None)
        }
    }
}

/// Reports the memory at the maximum number of flows, because the maps grow with the number of
/// flows.
fn loaded(meter: &KernelMeter) -> Check {
    let config = KernelMeterConfig::default();
    let memory = match meter.full_memory_bytes(&config) {
        Ok(bytes) => {
            let mib = bytes.div_ceil(1 << 20);
            format!("its maps grow to {mib} MiB with {} flows (--max-flows)", config.max_flows)
        }
        Err(error) => error.to_string(),
    };
    Check::ok("bpf", format!("the classifier loads; {memory}"))
}

fn advice(error: &Error) -> &'static str {
    match error.errno() {
        Some(Errno::EPERM) => {
            "run with sudo, or grant CAP_BPF and CAP_NET_ADMIN; in a container, use a seccomp profile that allows bpf(2); \
             check that kernel lockdown is off"
        }
        Some(Errno::ENOSYS) => "use a kernel with CONFIG_BPF_SYSCALL",
        _ => "see the kernel log",
    }
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    match Path::new(path).exists() {
        true => Check::ok("btf", path),
        false => Check::warn(
            "btf",
            format!("{path} does not exist"),
            "run works, but attributes no flows to processes; use a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

/// Loads what `attach` needs for cgroups. It is attached to no cgroup here, because the sockets of
/// all others would be counted for a moment.
fn cgroups() -> Check {
    let config = KernelMeterConfig { hooks: Hooks::Cgroups, ..KernelMeterConfig::default() };
    match KernelMeter::load(&config) {
        Ok(_) => Check::ok("attach --cgroup", "the classifier for cgroups loads"),
        Err(error) => {
            Check::warn("attach --cgroup", error.to_string(), "run works, but `netwatch attach` to cgroups fails")
        }
    }
}

/// Attaches by the method that `run` uses, and then by the other one.
fn attach(meter: KernelMeter) -> Check {
    let used = try_attach(meter);
    let other = used.as_ref().ok().map(|used| {
        let methods: &[AttachMethod] = match used {
            AttachMethod::Clsact => &[AttachMethod::Tcx],
            AttachMethod::Tcx => &[AttachMethod::Clsact],
        };
        KernelMeter::load(&KernelMeterConfig { methods, ..KernelMeterConfig::default() }).and_then(try_attach)
    });
    check_attach(used, other)
}

fn try_attach(mut meter: KernelMeter) -> Result<AttachMethod> {
    namespace::in_new(|| {
        meter.attach_link(LOOPBACK)?;
        meter.method().ok_or_else(|| Error::other("attach", "the classifier", "no method was used"))
    })?
}

fn check_attach(used: Result<AttachMethod>, other: Option<Result<AttachMethod>>) -> Check {
    let used = match used {
        Ok(used) => name(used),
        Err(error) => {
            let advice = match error.errno() {
                Some(Errno::EPERM) => advice(&error),
                _ => {
                    "load the modules sch_ingress and cls_bpf, or use a kernel with CONFIG_NET_SCH_INGRESS and \
                     CONFIG_NET_CLS_BPF, or Linux 6.6 or later with tcx"
                }
            };
            return Check::fail("attach", error.to_string(), advice);
        }
    };
    let other = match other {
        Some(Ok(other)) => format!("; {} works too", name(other)),
        Some(Err(error)) if used == name(AttachMethod::Clsact) => {
            format!("; tcx, which `netwatch attach` needs, does not work: {error}")
        }
        Some(Err(error)) => format!("; the other method does not work: {error}"),
        None => String::new(),
    };
    Check::ok("attach", format!("by {used}{other}"))
}

fn name(method: AttachMethod) -> &'static str {
    match method {
        AttachMethod::Clsact => "clsact",
        AttachMethod::Tcx => "tcx",
    }
}

/// Loads the programs that attribute flows to processes. `run` counts the same packets without
/// them. They are attached to the cgroup of the run, so without one no process is traced.
pub(super) fn processes(has_cgroup: bool) -> Check {
    if !has_cgroup {
        let advice = "run works, but attributes no flows to processes; mount cgroup2 so that netwatch can write to it";
        return Check::warn("processes", "a run would have no cgroup", advice);
    }
    let tracer = match ProcessTracer::load(ProcessTracerConfig { cmdline: true, failed_calls: false }) {
        Ok(tracer) => tracer,
        Err(error) => {
            return Check::warn("processes", error.to_string(), "run works, but attributes no flows to processes");
        }
    };
    let unavailable: Vec<&str> = tracer.rejected().map(|(name, _)| name).chain(tracer.untried()).collect();
    if unavailable.is_empty() {
        return Check::ok("processes", "flows can be attributed to processes, and local sockets are listed");
    }
    Check::warn(
        "processes",
        format!("this kernel cannot trace {}", unavailable.join(", ")),
        "run works; docs/limits.md lists what it then cannot observe",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckStatus;

    fn refused() -> Result<AttachMethod> {
        Err(Error::os("attach classifier to", "interface 1", Errno::EINVAL))
    }

    #[test]
    fn reports_the_method_of_run_and_whether_the_other_works() {
        let line = |used, other| check_attach(used, other).to_string();
        assert_eq!(
            line(Ok(AttachMethod::Clsact), Some(Ok(AttachMethod::Tcx))),
            "ok    attach: by clsact; tcx works too"
        );
        let before_6_6 = line(Ok(AttachMethod::Clsact), Some(refused()));
        assert!(
            before_6_6.starts_with("ok    attach: by clsact; tcx, which `netwatch attach` needs, "),
            "{before_6_6}"
        );
        assert!(before_6_6.contains("EINVAL"), "{before_6_6}");
        assert!(line(Ok(AttachMethod::Tcx), Some(refused())).starts_with("ok    attach: by tcx; "));
        assert_eq!(check_attach(refused(), None).status, CheckStatus::Fail);
    }

    #[test]
    fn processes_are_not_traced_without_a_cgroup() {
        let check = processes(false);
        assert_eq!(check.status, CheckStatus::Warn);
        assert!(check.to_string().contains("attributes no flows to processes"), "{check}");
    }

    #[test]
    fn attaches_by_both_methods() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to load a classifier");
            return;
        }
        let (checks, maps) = classifier();
        assert!(checks.iter().all(|check| check.status != CheckStatus::Fail), "{checks:?}");
        assert!(maps.is_some_and(|bytes| bytes > 0));
    }
}
