//! Where the classifier sits: tcx links (Linux 6.6), which go with their file descriptors, or filters of a clsact qdisc, which
//! go with the interface. Either lets every packet pass on to later classifiers.

mod clsact;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_attach_type;
use nix::sched::{CloneFlags, setns};

use super::sys;
use crate::error::{Error, Result};

/// The `lo` of every network namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// How the classifier is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMethod {
    /// BPF links at the tcx hooks.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// One entry point of the classifier and the hook it is for.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    program: BorrowedFd<'a>,
    hook: Hook,
}

/// A side of an interface, in the kernel's words: seen from the interface, not from the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Ingress,
    Egress,
}

/// The entry points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Programs<'a> {
    pub from_target: BorrowedFd<'a>,
    pub to_target: BorrowedFd<'a>,
    pub loopback: BorrowedFd<'a>,
}

/// Programs on one interface.
#[derive(Debug)]
pub(super) enum Attachment {
    Tcx(Vec<OwnedFd>),
    Clsact(clsact::Attachment),
}

impl Attachment {
    pub(super) fn method(&self) -> AttachMethod {
        match self {
            Self::Tcx(_) => AttachMethod::Tcx,
            Self::Clsact(_) => AttachMethod::Clsact,
        }
    }

    /// Links go with their descriptors.
    pub(super) fn detach(self) -> Result<()> {
        match self {
            Self::Tcx(links) => {
                drop(links);
                Ok(())
            }
            Self::Clsact(attachment) => attachment.detach(),
        }
    }
}

/// Attaches to the host's end of the link. What comes in there was sent by the target.
pub(super) fn link(programs: &Programs<'_>, ifindex: u32, methods: &[AttachMethod]) -> Result<Attachment> {
    let from_target = Entry { program: programs.from_target, hook: Hook::Ingress };
    let to_target = Entry { program: programs.to_target, hook: Hook::Egress };
    attach(&[from_target, to_target], ifindex, methods)
}

/// Attaches to a namespace's `lo`, from a thread that lives there for that long. Its egress is passed by every packet once.
pub(super) fn loopback(programs: &Programs<'_>, netns: BorrowedFd<'_>, methods: &[AttachMethod]) -> Result<Attachment> {
    let entry = Entry { program: programs.loopback, hook: Hook::Egress };
    let inside = || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|cause| Error::os("enter", "the network namespace", cause))?;
        attach(&[entry], LOOPBACK_IFINDEX, methods)
    };
    std::thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|_| Err(Error::said("attach classifier to", "lo", "a thread panicked")))
}

/// Attaches one program to what an interface sends.
pub(super) fn egress(program: BorrowedFd<'_>, ifindex: u32, methods: &[AttachMethod]) -> Result<Attachment> {
    attach(&[Entry { program, hook: Hook::Egress }], ifindex, methods)
}

/// The first method that the kernel knows. What fails for another reason fails.
fn attach(entries: &[Entry<'_>], ifindex: u32, methods: &[AttachMethod]) -> Result<Attachment> {
    let mut outcome = Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    for method in methods {
        outcome = match method {
            AttachMethod::Tcx => {
                entries.iter().map(|entry| tcx(entry, ifindex)).collect::<io::Result<_>>().map(Attachment::Tcx)
            }
            AttachMethod::Clsact => clsact::Attachment::new(entries, ifindex).map(Attachment::Clsact),
        };
        if !outcome.as_ref().is_err_and(is_unknown) {
            break;
        }
    }
    outcome.map_err(|cause| {
        Error::os("attach classifier to", format!("interface {ifindex}"), cause)
            .hint("needs CAP_BPF and CAP_NET_ADMIN; run with sudo")
    })
}

/// A kernel before 6.6 answers EINVAL to tcx; one without clsact or BPF filters ENOENT or EOPNOTSUPP to those.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP))
}

fn tcx(entry: &Entry<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let hook = match entry.hook {
        Hook::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        Hook::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    };
    sys::tcx_attach(entry.program, ifindex, hook)
}
