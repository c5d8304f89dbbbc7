//! What netwatch and its guardian say to each other: one JSON document a packet, over a seqpacket socket pair.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// No message comes near this; the rest of an oversized one would be cut off by the kernel.
const LONGEST: usize = 16 * 1024;

/// From netwatch to the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Fork the command's process; the network namespace comes with the packet.
    Prepare(Prepare),
    /// Let it run.
    Go,
    /// Send it a signal.
    Signal(i32),
    /// End every process that is left.
    EndRest,
    /// Everything is undone: leave.
    Finish,
}

/// What the command's process is given before it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepare {
    /// The file to be seen as /etc/resolv.conf.
    pub resolv_conf: PathBuf,
    /// A directory for further private files.
    pub private: PathBuf,
    /// Name of the namespace, for /etc/netns/NAME.
    pub netns: Option<String>,
    /// The `cgroup.procs` file to enter.
    pub cgroup_procs: Option<PathBuf>,
}

/// From the guardian to netwatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The command's process is in place and waits.
    Prepared {
        /// Its process id.
        pid: i32,
    },
    /// `execve` succeeded: the command runs.
    Started,
    /// It could not be prepared or executed.
    NotStarted {
        /// The whole story, as an error line.
        message: String,
        /// 125, 126 or 127.
        code: u8,
    },
    /// The command's own process ended by itself with this code.
    Exited {
        /// Exit code.
        code: u8,
    },
    /// The command's own process was killed.
    Signalled {
        /// By this signal.
        signal: i32,
    },
    /// No process of the run is left.
    AllGone,
    /// What was left has been ended.
    Ended {
        /// How many processes that were.
        processes: u32,
    },
}

pub(super) fn send<T: Serialize>(socket: &OwnedFd, message: &T, fd: Option<RawFd>) -> Result<()> {
    let text = serde_json::to_vec(message).expect("messages are plain data");
    let fds: Vec<RawFd> = fd.into_iter().collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&text)], control, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .map_err(|errno| Error::os("talk to", "the guardian", errno))
}

/// `None` at the end of the line.
pub(super) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> Result<Option<(T, Option<OwnedFd>)>> {
    let mut buffer = vec![0u8; LONGEST];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(|errno| Error::os("hear", "the other process", errno))?;
    let fd = message.cmsgs().ok().and_then(|messages| messages.into_iter().find_map(passed_fd));
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&buffer[..length])
        .map_err(|error| Error::said("understand", "the other process", error.to_string()))?;
    Ok(Some((value, fd)))
}

fn passed_fd(message: ControlMessageOwned) -> Option<OwnedFd> {
    let ControlMessageOwned::ScmRights(fds) = message else { return None };
    // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows it.
    fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn a_message_and_its_descriptor_arrive_and_the_end_is_seen() {
        let (here, there) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
        let passed = std::fs::File::open("/dev/null").expect("exists");
        send(&here, &Reply::Prepared { pid: 7 }, Some(passed.as_raw_fd())).expect("sent");
        send(&here, &Reply::AllGone, None).expect("sent");
        drop(here);
        let (first, fd) = receive::<Reply>(&there).expect("received").expect("a message");
        assert_eq!((first, fd.is_some()), (Reply::Prepared { pid: 7 }, true));
        let (second, fd) = receive::<Reply>(&there).expect("received").expect("a message");
        assert_eq!((second, fd.is_some()), (Reply::AllGone, false));
        assert!(receive::<Reply>(&there).expect("the end").is_none());
    }
}
