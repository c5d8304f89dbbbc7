//! Attaches the classifier: by tcx links (Linux 6.6), which are removed when their file descriptors
//! are closed, or by filters of a clsact qdisc, which are removed with the interface. Both let
//! every packet pass to later classifiers.

mod clsact;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_attach_type;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::sys;
use crate::error::{self, Error, Result};

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

/// An entry point of the classifier and its hook.
#[derive(Debug, Clone, Copy)]
struct HookProgram<'a> {
    program: BorrowedFd<'a>,
    hook: TcHook,
    /// Priority of the filter of a clsact qdisc; `None` lets the kernel choose one. tcx links need
    /// none.
    priority: Option<u16>,
}

/// Priority of the filters of the first capture; further ones have higher numbers. The kernel
/// chooses 0xC000 or less for the classifier's, which therefore come first.
const CAPTURE_PRIORITY: u16 = 0xC001;

impl<'a> HookProgram<'a> {
    fn new(program: BorrowedFd<'a>, hook: TcHook) -> Self {
        Self { program, hook, priority: None }
    }
}

/// A TC hook of an interface. Directions are those of the interface, not of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TcHook {
    Ingress,
    Egress,
}

/// The entry points.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryPrograms<'a> {
    pub from_target: BorrowedFd<'a>,
    pub to_target: BorrowedFd<'a>,
    pub loopback: BorrowedFd<'a>,
}

/// Where an interface is, as seen from the target. Only this decides which of its hooks observes
/// what the target sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkSide {
    /// An interface of the target: it sends what the target sends.
    Own,
    /// The other end of a link of the target: it receives what the target sends.
    Peer,
    /// The loopback of the target.
    Loopback,
}

/// Attaches the classifier to interfaces that netwatch did not create, from any thread, by tcx
/// links only: the kernel removes them with this process, so a killed netwatch leaves nothing.
#[derive(Debug)]
pub struct LinkAttacher {
    from_target: OwnedFd,
    to_target: OwnedFd,
    loopback: OwnedFd,
}

/// An interface that the classifier is attached to. Dropping it detaches.
#[derive(Debug)]
pub struct AttachedLink {
    _attachment: Attachment,
}

impl LinkAttacher {
    pub(super) fn of(programs: &EntryPrograms<'_>) -> Result<Self> {
        let duplicate = |program: BorrowedFd<'_>| {
            program.try_clone_to_owned().map_err(|cause| Error::os("duplicate", "a program of the classifier", cause))
        };
        Ok(Self {
            from_target: duplicate(programs.from_target)?,
            to_target: duplicate(programs.to_target)?,
            loopback: duplicate(programs.loopback)?,
        })
    }

    /// Attaches to an interface of the calling thread's network namespace.
    pub fn attach(&self, ifindex: u32, side: LinkSide) -> Result<AttachedLink> {
        let both = (Some(self.from_target.as_fd()), Some(self.to_target.as_fd()));
        let entries = match side {
            LinkSide::Own | LinkSide::Peer => at_side(both, side),
            LinkSide::Loopback => vec![HookProgram::new(self.loopback.as_fd(), TcHook::Egress)],
        };
        let _attachment = attach_foreign(&entries, ifindex)?;
        Ok(AttachedLink { _attachment })
    }
}

/// The programs attached to one interface.
#[derive(Debug)]
pub(super) enum Attachment {
    Tcx(Vec<OwnedFd>),
    Clsact(clsact::ClsactFilters),
}

impl Attachment {
    pub(super) fn method(&self) -> AttachMethod {
        match self {
            Self::Tcx(_) => AttachMethod::Tcx,
            Self::Clsact(_) => AttachMethod::Clsact,
        }
    }

    /// Detaches the programs.
    pub(super) fn detach(self) -> Result<()> {
        match self {
            Self::Tcx(links) => links.iter().try_for_each(|link| {
                let detached = sys::link_detach(link.as_fd());
                detached.map_err(|cause| Error::os("detach", "a program of the classifier", cause))
            }),
            Self::Clsact(attachment) => attachment.detach(),
        }
    }
}

/// Attaches to the host's end of the link. Its ingress receives what the target sends.
pub(super) fn link(programs: &EntryPrograms<'_>, ifindex: u32, methods: &[AttachMethod]) -> Result<Attachment> {
    let from_target = HookProgram::new(programs.from_target, TcHook::Ingress);
    let to_target = HookProgram::new(programs.to_target, TcHook::Egress);
    attach(&[from_target, to_target], ifindex, methods)
}

/// Attaches the programs of a capture to the host's end of the link, after the classifier. `None`
/// captures nothing of this direction; `slot` distinguishes the captures of an interface.
pub(super) fn capture(
    from_target: Option<BorrowedFd<'_>>,
    to_target: Option<BorrowedFd<'_>>,
    slot: u16,
    ifindex: u32,
    methods: &[AttachMethod],
) -> Result<Attachment> {
    let at = |program, hook| HookProgram { program, hook, priority: Some(CAPTURE_PRIORITY + slot) };
    let from_target = from_target.map(|program| at(program, TcHook::Ingress));
    let to_target = to_target.map(|program| at(program, TcHook::Egress));
    let entries: Vec<_> = from_target.into_iter().chain(to_target).collect();
    attach(&entries, ifindex, methods)
}

/// Attaches the programs of a capture to an interface that netwatch did not create. `None` captures
/// nothing of this direction. A loopback, at which every packet passes both hooks, is not captured.
pub(super) fn capture_of(
    from_target: Option<BorrowedFd<'_>>,
    to_target: Option<BorrowedFd<'_>>,
    ifindex: u32,
    side: LinkSide,
) -> Result<Attachment> {
    attach_foreign(&at_side((from_target, to_target), side), ifindex)
}

/// The hooks of the programs for what the target sends and receives. None at a loopback.
fn at_side<'a>(
    (from_target, to_target): (Option<BorrowedFd<'a>>, Option<BorrowedFd<'a>>),
    side: LinkSide,
) -> Vec<HookProgram<'a>> {
    let (sends, receives) = match side {
        LinkSide::Own => (TcHook::Egress, TcHook::Ingress),
        LinkSide::Peer => (TcHook::Ingress, TcHook::Egress),
        LinkSide::Loopback => return Vec::new(),
    };
    let at = |program: Option<BorrowedFd<'a>>, hook| program.map(|program| HookProgram::new(program, hook));
    at(from_target, sends).into_iter().chain(at(to_target, receives)).collect()
}

/// Attaches to an interface that netwatch did not create: by tcx links only, which the kernel
/// removes with this process.
fn attach_foreign(entries: &[HookProgram<'_>], ifindex: u32) -> Result<Attachment> {
    attach(entries, ifindex, &[AttachMethod::Tcx]).map_err(|error| match error.errno() {
        Some(Errno::EINVAL) => error.hint("attaching to interfaces that netwatch did not create needs Linux 6.6"),
        _ => error,
    })
}

/// Attaches to the egress of a namespace's `lo`, which every packet passes once. A short-lived
/// thread enters the namespace.
pub(super) fn loopback(
    programs: &EntryPrograms<'_>,
    netns: BorrowedFd<'_>,
    methods: &[AttachMethod],
) -> Result<Attachment> {
    let entry = HookProgram::new(programs.loopback, TcHook::Egress);
    let inside = || {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|cause| Error::os("enter", "the network namespace", cause))?;
        attach(&[entry], LOOPBACK_IFINDEX, methods)
    };
    std::thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|_| Err(Error::other("attach classifier to", "lo", "a thread panicked")))
}

/// Attaches one program to the egress of an interface.
pub(super) fn egress(program: BorrowedFd<'_>, ifindex: u32, methods: &[AttachMethod]) -> Result<Attachment> {
    attach(&[HookProgram::new(program, TcHook::Egress)], ifindex, methods)
}

/// Attaches by the first method that the kernel supports. Other errors are returned.
fn attach(entries: &[HookProgram<'_>], ifindex: u32, methods: &[AttachMethod]) -> Result<Attachment> {
    let mut outcome = Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    for method in methods {
        outcome = match method {
            AttachMethod::Tcx => {
                entries.iter().map(|entry| tcx(entry, ifindex)).collect::<io::Result<_>>().map(Attachment::Tcx)
            }
            AttachMethod::Clsact => clsact::ClsactFilters::new(entries, ifindex).map(Attachment::Clsact),
        };
        if !outcome.as_ref().is_err_and(is_unsupported) {
            break;
        }
    }
    outcome.map_err(|cause| {
        Error::os("attach classifier to", format!("interface {ifindex}"), cause)
            .hint(error::needs("CAP_BPF and CAP_NET_ADMIN"))
    })
}

/// A kernel before 6.6 returns EINVAL for tcx; one without clsact or BPF filters returns ENOENT or
/// EOPNOTSUPP for those.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP))
}

fn tcx(entry: &HookProgram<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let hook = match entry.hook {
        TcHook::Ingress => bpf_attach_type::BPF_TCX_INGRESS,
        TcHook::Egress => bpf_attach_type::BPF_TCX_EGRESS,
    };
    sys::tcx_attach(entry.program, ifindex, hook)
}
