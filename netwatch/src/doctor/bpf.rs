//! Whether the kernel takes a classifier and lets it be attached: tried with one of two instructions on the loopback interface of a
//! namespace of its own.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use nix::errno::Errno;

use super::Finding;
use crate::netns::namespace;
use crate::netns::netlink::{Netlink, Request};

const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
/// `r0 = -1; exit`: let later classifiers run.
const PASS: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

pub(super) fn all() -> Vec<Finding> {
    match load() {
        Ok(program) => vec![Finding::ok("bpf", "a classifier loads"), btf(), attach(&program)],
        Err(error) => vec![Finding::fail("bpf", format!("a classifier does not load: {error}"), advice(&error)), btf()],
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "needs CAP_BPF and CAP_NET_ADMIN: run with sudo; in a container the seccomp profile must allow bpf(2) (see also kernel lockdown)"
        }
        Some(libc::ENOSYS) => "needs a kernel with CONFIG_BPF_SYSCALL",
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

fn attach(program: &OwnedFd) -> Finding {
    let outcome = namespace::in_new(|| match tcx(program) {
        Ok(_link) => Finding::ok("attach", "tcx"),
        Err(tcx) => match clsact() {
            Ok(()) => Finding::ok("attach", format!("clsact (tcx needs Linux 6.6: {tcx})")),
            Err(clsact) => Finding::fail(
                "attach",
                format!("neither tcx ({tcx}) nor clsact ({clsact})"),
                "load the modules sch_ingress and cls_bpf, or use a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF",
            ),
        },
    });
    outcome.unwrap_or_else(|error| {
        Finding::fail("attach", format!("cannot be tried: {error}"), "make network namespaces possible first")
    })
}

/// The part of `union bpf_attr` that BPF_PROG_LOAD has had since 4.4.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The part of `union bpf_attr` that BPF_LINK_CREATE has had since 5.7.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

fn load() -> io::Result<OwnedFd> {
    let attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: PASS.len() as u32,
        insns: PASS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

fn tcx(program: &OwnedFd) -> io::Result<OwnedFd> {
    let prog_fd = program.as_raw_fd() as u32;
    bpf(BPF_LINK_CREATE, &LinkCreate { prog_fd, target_ifindex: 1, attach_type: BPF_TCX_INGRESS, flags: 0 })
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are plain data of the size given; what they point to lives as long as the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = Errno::result(fd)?;
    // SAFETY: both commands return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Adds the queue discipline that older kernels attach classifiers to.
fn clsact() -> crate::error::Result<()> {
    let mut message = TcMessage::default();
    message.header.index = 1;
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    message.header.parent = TcHandle { major: 0xffff, minor: 0xfff1 };
    message.attributes.push(TcAttribute::Kind("clsact".into()));
    let request = Request::new("add clsact to", "lo", RouteNetlinkMessage::NewQueueDiscipline(message)).create();
    Netlink::route()?.batch(&[request]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn tries_both_ways_to_attach() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root to load a classifier");
            return;
        }
        let findings = all();
        assert!(findings.iter().all(|finding| finding.level != Level::Fail), "{findings:?}");
        namespace::in_new(clsact).unwrap().unwrap();
    }
}
