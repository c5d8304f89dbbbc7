//! Attaches the classifier: by tcx where the kernel has it (6.6), else by clsact and a filter in direct-action mode.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_attach_type::{self, BPF_TCX_EGRESS, BPF_TCX_INGRESS};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use nix::sched::{CloneFlags, setns};

use super::sys;
use crate::error::{Error, Result};

/// One attachment. A tcx link detaches when it is closed; a clsact filter goes with its interface.
#[derive(Debug)]
pub(super) enum Attached {
    Tcx { _link: OwnedFd },
    Clsact,
}

impl Attached {
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Tcx { .. } => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// The interface's number in the caller's namespace.
pub(super) fn index_of(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface).map_err(|errno| Error::os("find interface", interface, errno))
}

pub(super) fn ingress(program: BorrowedFd<'_>, interface: &str, index: u32) -> Result<Attached> {
    attach(program, interface, index, BPF_TCX_INGRESS)
}

pub(super) fn egress(program: BorrowedFd<'_>, interface: &str, index: u32) -> Result<Attached> {
    attach(program, interface, index, BPF_TCX_EGRESS)
}

fn attach(program: BorrowedFd<'_>, interface: &str, index: u32, hook: bpf_attach_type) -> Result<Attached> {
    let failed = |cause| {
        Error::os("attach classifier to", interface, cause).hint("needs CAP_BPF and CAP_NET_ADMIN; run with sudo")
    };
    match sys::tcx_attach(program, index, hook) {
        Ok(link) => Ok(Attached::Tcx { _link: link }),
        // Before 6.6 there is no such attach type.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            clsact(program, index, hook).map(|()| Attached::Clsact).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Runs `work` on a thread inside another network namespace: tcx looks interfaces up in the caller's.
pub(super) fn within<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| Error::os("enter", "the command's network namespace", errno))?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_H_CLSACT_HANDLE: u32 = 0xffff_0000;
const TC_H_MIN_INGRESS: u32 = 0xfff2;
const TC_H_MIN_EGRESS: u32 = 0xfff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// linux/rtnetlink.h and linux/pkt_cls.h: a clsact qdisc, made once, and a filter for one direction.
fn clsact(program: BorrowedFd<'_>, index: u32, hook: bpf_attach_type) -> io::Result<()> {
    let qdisc =
        message(libc::RTM_NEWQDISC, index, TC_H_CLSACT, TC_H_CLSACT_HANDLE, 0, &attribute(TCA_KIND, b"clsact\0"));
    match request(&qdisc) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let side = if matches!(hook, BPF_TCX_INGRESS) { TC_H_MIN_INGRESS } else { TC_H_MIN_EGRESS };
    let mut options = attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
    options.extend(attribute(TCA_BPF_NAME, b"netwatch\0"));
    options.extend(attribute(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()));
    let mut body = attribute(TCA_KIND, b"bpf\0");
    body.extend(attribute(TCA_OPTIONS, &options));
    let all_protocols = u32::from((libc::ETH_P_ALL as u16).to_be());
    request(&message(libc::RTM_NEWTFILTER, index, TC_H_CLSACT_HANDLE | side, 0, (1 << 16) | all_protocols, &body))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct nlmsghdr`, `struct tcmsg`, attributes.
fn message(kind: u16, index: u32, parent: u32, handle: u32, info: u32, body: &[u8]) -> Vec<u8> {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let mut bytes = ((16 + 20 + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([1_u32, 0, 0, index, handle, parent, info].into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend(body);
    bytes
}

/// Sends one request and reads its acknowledgement: `struct nlmsgerr` behind the header.
fn request(message: &[u8]) -> io::Result<()> {
    let socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    socket.send(message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let errno = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map_or(-libc::EBADMSG, i32::from_ne_bytes);
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-errno)) }
}
