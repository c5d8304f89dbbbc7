//! The protocol between netwatch and its guardian: one JSON document per packet, over a seqpacket
//! socket pair. The guardian executes exactly these verbs, after a check of their arguments against
//! those that the guardian was started with. A reply contains the errno of a failure.

use std::io::{IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::filter::FilterProgram;
use crate::flow::PerDirection;
use crate::host::firewall::{FirewallNeeds, RepairedFirewall};
use crate::host::link::HostEndCounters;
use crate::meter::{KernelMeterConfig, PacketTap, TapConfig};
use crate::undo::RunId;

/// Size of the receive buffer, bytes. The kernel would cut off the rest of a longer packet, so none
/// is sent.
const MAX_PACKET_BYTES: usize = 64 * 1024;

/// Maximum number of captures of a run at the same time: its own, and those of tails.
pub const MAX_CAPTURES: u16 = 5;

/// A verb, from netwatch to the guardian.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum GuardianRequest {
    /// Forks the process of the target and prepares it up to `execve`. The packet carries a
    /// descriptor of the network namespace. Answered by [`Reply::Prepared`] or
    /// [`Reply::NotStarted`].
    Prepare(Prepare),
    /// Lets the target execute its command. Answered by [`Reply::Started`] or
    /// [`Reply::NotStarted`].
    Go,
    /// Sends a signal to the main process of the target. No reply.
    Signal(i32),
    /// Ends every process that is left of the target. Answered by [`Reply::Killed`].
    Kill,
    /// Replaces the contents of the target's resolv.conf. Answered by [`Reply::ResolverWritten`].
    WriteResolver(Vec<u8>),
    /// Puts back the rules that let the target's packets pass the host's firewall, if another
    /// program has removed them. Answered by [`Reply::FirewallRepaired`].
    RepairFirewall,
    /// Takes the host's end of the link down and reads its counters. Answered by
    /// [`Reply::LinkDown`].
    LinkDown,
    /// Attaches the programs of a capture to the link of the run. Answered by
    /// [`Reply::CaptureStarted`], which carries the descriptors of its maps.
    StartCapture(StartCapture),
    /// Detaches the programs of the capture in this slot. No reply.
    StopCapture(u16),
    /// Keeps the nftables table of the run, whose socket the packet carries, until the guardian
    /// exits. No reply.
    HoldTable,
    /// Creates the next segment of the flow table, which has this number. Accepted only on the
    /// connection for the growth of memory (`growth`). Answered by [`Reply::MemoryCreated`].
    GrowTable(u32),
    /// Undoes the run. Answered by [`Reply::Undone`].
    Undo,
    /// Exits. No reply.
    Finish,
}

/// Properties of the target's process, set before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// Name of the network namespace, for /etc/netns/NAME.
    pub netns: Option<String>,
    /// The `cgroup.procs` file of the run's cgroup.
    pub cgroup_procs: Option<PathBuf>,
    /// The packets that the host's firewall has to let pass, for
    /// `GuardianRequest::RepairFirewall`.
    pub firewall: FirewallNeeds,
    /// The host's address on the link, for the environment of the target.
    pub gateway: Option<IpAddr>,
}

/// Settings of a capture. The guardian refuses values that no capture has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartCapture {
    /// Distinguishes the captures of the run.
    pub slot: u16,
    /// Maximum number of bytes of each packet.
    pub snaplen: u32,
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
    /// Whether packets that the target sends are captured.
    pub egress: bool,
    /// Whether packets that the target receives are captured.
    pub ingress: bool,
    /// Which packets are captured. Its instructions are checked again where they are received.
    pub filter: Option<FilterProgram>,
}

impl StartCapture {
    /// Attaches the programs to the interface of this name. Starts no threads: the guardian forks.
    pub(super) fn attach(self, interface: &str) -> Result<PacketTap> {
        let Self { slot, snaplen, ring_bytes, egress, ingress, filter } = self;
        let config = TapConfig { snaplen, ring_bytes, directions: PerDirection { egress, ingress }, slot };
        let index = if_nametoindex(interface).map_err(|errno| Error::os("capture on", interface, errno))?;
        PacketTap::attach(index, &config, filter.as_ref(), KernelMeterConfig::default().methods)
    }
}

impl GuardianRequest {
    /// Refuses arguments that do not belong to the run, and a packet without the descriptor that
    /// the verb needs.
    pub(super) fn check(&self, run: &RunId, has_fd: bool) -> Result<()> {
        let refuse = |verb: &str, cause: &str| Err(Error::other("accept request", verb, cause));
        match self {
            Self::Prepare(_) | Self::HoldTable if !has_fd => refuse("prepare or hold-table", "it has no descriptor"),
            Self::Prepare(prepare) if !prepare.is_of(run) => {
                refuse("prepare", "its cgroup is not the cgroup of this run")
            }
            Self::Signal(number) if Signal::try_from(*number).is_err() => refuse("signal", "there is no such signal"),
            Self::GrowTable(_) => refuse("grow-table", "not accepted on this connection"),
            Self::StartCapture(capture) if capture.slot >= MAX_CAPTURES => {
                refuse("start-capture", "the run has too many captures")
            }
            _ => Ok(()),
        }
    }
}

impl Prepare {
    /// The run's cgroup.
    pub(super) fn cgroup(&self) -> Option<&Path> {
        self.cgroup_procs.as_deref()?.parent()
    }

    fn is_of(&self, run: &RunId) -> bool {
        let Some(procs) = &self.cgroup_procs else { return true };
        let name = self.cgroup().and_then(|cgroup| cgroup.file_name()?.to_str());
        procs.is_absolute() && procs.ends_with("cgroup.procs") && name == Some(&format!("netwatch-{run}"))
    }
}

/// From the guardian to netwatch.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The target's process is prepared and waits.
    Prepared {
        /// Its process id.
        pid: i32,
    },
    /// `execve` succeeded: the target runs.
    Started,
    /// The target's process could not be prepared or executed.
    NotStarted {
        /// The error, as shown to the user.
        message: String,
        /// Exit code: 125, 126 or 127.
        code: u8,
    },
    /// The main process of the target exited.
    Exited {
        /// Exit code.
        code: u8,
    },
    /// The main process of the target was killed by a signal.
    Signalled {
        /// Number of the signal.
        signal: i32,
    },
    /// No process of the run is left.
    AllGone,
    /// The processes that were left have been ended.
    Killed {
        /// Number of processes.
        processes: u32,
    },
    /// The target's resolv.conf was written.
    ResolverWritten(Result<()>),
    /// The host's end of the link is down; its counters, or `None` if the interface is gone.
    LinkDown(Result<Option<HostEndCounters>>),
    /// The host's firewall lets the target's packets pass again, as far as netwatch can open it.
    FirewallRepaired(Result<RepairedFirewall>),
    /// The segment was created; the packet carries its descriptor.
    MemoryCreated(Result<()>),
    /// The capture is attached; the packet carries the descriptors of its ring and its counters.
    /// The text is why the kernel does not apply the filter.
    CaptureStarted(Result<Option<String>>),
    /// The run was undone.
    Undone(Result<()>),
    /// A request was refused; one for `GuardianRequest::Prepare` is [`Reply::NotStarted`].
    Refused(Error),
}

/// Most descriptors that a message carries: a ring and its counters.
const MAX_FDS: usize = 2;

/// Sends a message, with the descriptors that the verb needs.
pub(super) fn send<T: Serialize>(socket: &OwnedFd, message: &T, fds: &[RawFd]) -> Result<()> {
    let text = serde_json::to_vec(message).expect("messages are plain data");
    if text.len() > MAX_PACKET_BYTES {
        return Err(Error::os("send to", "the guardian", std::io::Error::from_raw_os_error(libc::EMSGSIZE)));
    }
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    let send = || sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&text)], control, MsgFlags::MSG_NOSIGNAL, None);
    unless_interrupted(send).map(drop).map_err(|errno| Error::os("send to", "the guardian", errno))
}

/// Repeats a call that a signal interrupts (EINTR).
fn unless_interrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

/// Receives a message and the descriptors that came with it. `None` when the other process has
/// closed its end.
pub(super) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0u8; MAX_PACKET_BYTES];
    let (length, fds) = unless_interrupted(|| {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        Ok((message.bytes, message.cmsgs().into_iter().flatten().flat_map(passed_fds).collect()))
    })
    .map_err(|errno| Error::os("receive from", "the other process", errno))?;
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&buffer[..length])
        .map_err(|error| Error::other("parse message of", "the other process", error.to_string()))?;
    Ok(Some((value, fds)))
}

fn passed_fds(message: ControlMessageOwned) -> Vec<OwnedFd> {
    let ControlMessageOwned::ScmRights(fds) = message else { return Vec::new() };
    // SAFETY: the kernel has just installed these descriptors in this process, and nothing else
    // refers to them.
    fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a pair")
    }

    #[test]
    fn passes_messages_and_descriptors_and_reports_the_end() {
        let (here, there) = pair();
        let passed = std::fs::File::open("/dev/null").expect("exists");
        send(&here, &GuardianRequest::HoldTable, &[passed.as_raw_fd(), passed.as_raw_fd()]).expect("sent");
        send(&here, &GuardianRequest::Kill, &[]).expect("sent");
        drop(here);
        let (first, fds) = receive::<GuardianRequest>(&there).expect("received").expect("a message");
        assert_eq!((first, fds.len()), (GuardianRequest::HoldTable, 2));
        let (second, fds) = receive::<GuardianRequest>(&there).expect("received").expect("a message");
        assert_eq!((second, fds.len()), (GuardianRequest::Kill, 0));
        assert!(receive::<GuardianRequest>(&there).expect("the end").is_none());
    }

    #[test]
    fn an_error_keeps_its_errno_and_its_text() {
        let (here, there) = pair();
        let error = || Error::os("remove", "/x", Errno::EBUSY).hint("wait");
        send(&here, &Reply::Undone(Err(error())), &[]).expect("sent");
        let Some((Reply::Undone(Err(received)), _)) = receive::<Reply>(&there).expect("received") else { panic!() };
        assert_eq!(received.to_string(), error().to_string());
        assert_eq!(received.errno(), Some(Errno::EBUSY));
    }

    #[test]
    fn refuses_to_send_what_would_be_cut_off() {
        let (here, _there) = pair();
        let error =
            send(&here, &GuardianRequest::WriteResolver(vec![b'x'; MAX_PACKET_BYTES]), &[]).expect_err("too long");
        assert_eq!(error.errno(), Some(Errno::EMSGSIZE));
    }

    #[test]
    fn refuses_arguments_that_are_not_of_the_run() {
        let run = RunId::parse("0123abcd").expect("an id");
        let firewall = FirewallNeeds { dns_port: 53, publish: false };
        let with_cgroup = |cgroup_procs: Option<PathBuf>| {
            GuardianRequest::Prepare(Prepare { netns: None, cgroup_procs, firewall, gateway: None })
        };
        let prepare = |procs: &str| with_cgroup(Some(procs.into()));
        assert!(prepare("/sys/fs/cgroup/netwatch-0123abcd/cgroup.procs").check(&run, true).is_ok());
        for other in
            ["/sys/fs/cgroup/netwatch-ffffffff/cgroup.procs", "/sys/fs/cgroup/cgroup.procs", "netwatch-0123abcd/x"]
        {
            assert!(prepare(other).check(&run, true).is_err(), "{other}");
        }
        assert!(with_cgroup(None).check(&run, true).is_ok());
        assert!(
            with_cgroup(None).check(&run, false).is_err() && GuardianRequest::HoldTable.check(&run, false).is_err()
        );
        assert!(GuardianRequest::Signal(libc::SIGTERM).check(&run, false).is_ok());
        assert!(GuardianRequest::Signal(999).check(&run, false).is_err());
    }
}
