//! The connection by which the flow table grows: netwatch requests its segments in order
//! (`grow-table`), and the guardian creates them. A connection of its own, because netwatch's end
//! belongs to the thread that grows the table and waits for the reply; the event loop does not take
//! part.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::protocol::{GuardianRequest, Reply, receive, send};
use crate::error::{Error, Result};
use crate::meter::{MemorySource, segments};

/// Both ends, for a table of at most `max_flows` flows.
pub(super) fn pair(max_flows: u32) -> Result<(MemoryGrowth, GrowthServer)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| Error::os("create a socket pair", "", errno))?;
    // The guardian serves other connections too; netwatch's thread waits for its reply.
    fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| Error::os("configure", "a socket", errno))?;
    let server =
        GrowthServer { socket: theirs, next: segments::initial_count(max_flows), end: segments::count(max_flows) };
    Ok((MemoryGrowth { socket: ours, turn: Mutex::new(()) }, server))
}

/// netwatch's end: the source of the classifier's memory.
#[derive(Debug)]
pub struct MemoryGrowth {
    socket: OwnedFd,
    /// Held while a thread waits for its reply.
    turn: Mutex<()>,
}

impl MemoryGrowth {
    fn create(&self, request: &GuardianRequest) -> Result<OwnedFd> {
        let failed = |cause: &str| Error::other("grow", "the classifier's memory", cause);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        send(&self.socket, request, &[])?;
        match receive::<Reply>(&self.socket)? {
            Some((Reply::MemoryCreated(Ok(())), array)) => {
                array.into_iter().next().ok_or_else(|| failed("the guardian's reply has no descriptor"))
            }
            Some((Reply::MemoryCreated(Err(error)), _)) => Err(error),
            Some(_) => Err(failed("the guardian's reply is not about the memory")),
            None => Err(failed("the connection to the guardian is closed")),
        }
    }
}

impl MemorySource for MemoryGrowth {
    fn segment(&self, number: u32) -> Result<OwnedFd> {
        self.create(&GuardianRequest::GrowTable(number))
    }

    /// Also wakes a thread that waits for a guardian that does not reply.
    fn close(&self) {
        // ENOTCONN: the guardian is gone.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

/// The guardian's end.
#[derive(Debug)]
pub(super) struct GrowthServer {
    socket: OwnedFd,
    /// Number of the next segment.
    next: u32,
    /// Number of segments of a full table.
    end: u32,
}

impl AsFd for GrowthServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl GrowthServer {
    /// Serves the request that has arrived, if there is one. Returns false if netwatch has closed
    /// the connection.
    pub(super) fn serve(&mut self) -> bool {
        let request = match receive::<GuardianRequest>(&self.socket) {
            Err(error) if error.errno() == Some(Errno::EAGAIN) => return true,
            Ok(Some((request, _))) => request,
            Ok(None) | Err(_) => return false,
        };
        let (created, array) = match self.create(&request) {
            Ok(array) => (Ok(()), Some(array)),
            Err(error) => (Err(error), None),
        };
        // netwatch waits for this reply only, so the socket has room; any failure means that it is
        // gone.
        let array: Vec<_> = array.iter().map(AsRawFd::as_raw_fd).collect();
        send(&self.socket, &Reply::MemoryCreated(created), &array).is_ok()
    }

    /// Each segment once and in order, so that netwatch cannot have more memory than a full table
    /// needs.
    fn create(&mut self, request: &GuardianRequest) -> Result<OwnedFd> {
        let refuse = |cause: String| Error::other("accept request", "grow-table", cause);
        match request {
            GuardianRequest::GrowTable(number) if *number == self.next && *number < self.end => {
                let segment = segments::create()?;
                self.next += 1;
                Ok(segment)
            }
            GuardianRequest::GrowTable(number) => {
                Err(refuse(format!("segment {number} is not the next one, {} of {}", self.next, self.end)))
            }
            _ => Err(refuse("this connection accepts no other verb".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// Seven segments. Four exist from the start, so the numbers 4, 5 and 6 are left.
    const MAX_FLOWS: u32 = 7 * 4096;

    fn serve(server: &mut GrowthServer) -> bool {
        let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        server.serve()
    }

    /// A thread that serves until the connection is closed.
    fn with_server(test: impl FnOnce(&MemoryGrowth)) {
        let (ours, mut server) = pair(MAX_FLOWS).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || while serve(&mut server) {});
            test(&ours);
            ours.close();
        });
    }

    #[test]
    fn refuses_segments_that_are_not_the_next_and_more_than_the_table_has() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: needs root to create maps");
        }
        with_server(|ours| {
            let refused = |number| ours.segment(number).unwrap_err().to_string();
            assert!(refused(3).contains("not the next"), "one of the initial segments");
            assert!(refused(5).contains("not the next"), "out of order");
            for number in 4..7 {
                let segment = ours.segment(number).unwrap();
                assert!(refused(number).contains("not the next"), "twice");
                let link = std::fs::read_link(format!("/proc/self/fd/{}", segment.as_raw_fd())).unwrap();
                assert!(link.to_string_lossy().contains("bpf-map"), "{link:?}");
            }
            assert!(refused(7).contains("7 of 7"), "beyond the end");
        });
    }

    #[test]
    fn accepts_no_other_verb() {
        with_server(|ours| {
            send(&ours.socket, &GuardianRequest::Kill, &[]).unwrap();
            let reply = receive::<Reply>(&ours.socket).unwrap().unwrap();
            assert!(matches!(&reply, (Reply::MemoryCreated(Err(_)), fds) if fds.is_empty()), "{reply:?}");
        });
    }

    #[test]
    fn closing_ends_a_request_that_is_not_answered() {
        let (ours, stopped) = pair(MAX_FLOWS).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ours.segment(4).unwrap_err().to_string());
            // The request has arrived, so the thread waits for the reply.
            let mut fds = [PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::NONE).unwrap();
            ours.close();
            assert!(waiting.join().unwrap().contains("closed"));
        });
    }
}
