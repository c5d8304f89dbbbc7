//! Writes texts to standard error from its own thread, so that a slow reader never blocks the event
//! loop.

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::BUFFER_BYTES;
use crate::error::{Error, Result};

/// Texts that can wait to be written; further ones are dropped.
const MAX_QUEUED_TEXTS: usize = 8;

/// Writes a text; called in the writer's thread.
type Render = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;

/// A thread with a bounded queue of texts. Texts are written in order. One that is dropped, or not
/// written to its end, is counted.
///
/// Dropping the writer does not wait for the thread: what is still queued may be lost.
/// [`finish`](Self::finish) waits.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<Render>,
    /// Texts that are dropped, failed or still queued.
    unwritten: Arc<AtomicU64>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
}

impl Writer {
    /// Starts a thread that writes to standard error. The thread inherits the signal mask of the
    /// caller; `run` starts it after it has forked the guardian, which requires a single thread.
    pub(crate) fn start() -> Result<Self> {
        Self::start_on(io::stderr())
    }

    fn start_on(mut out: impl Write + AsFd + Send + 'static) -> Result<Self> {
        let (queue, texts) = mpsc::sync_channel::<Render>(MAX_QUEUED_TEXTS);
        let (end, ended) = mpsc::channel();
        let unwritten = Arc::new(AtomicU64::new(0));
        let shared = unwritten.clone();
        thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                let _disconnects_at_the_end: mpsc::Sender<()> = end;
                for render in texts {
                    // If it fails, the text fails too.
                    let _ = super::status_line::erase_with(&mut Waiting(&mut out));
                    // Not rendered as a whole first, because a report can be large.
                    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, Waiting(&mut out));
                    if render(&mut buffered).and_then(|()| buffered.flush()).is_ok() {
                        shared.fetch_sub(1, Ordering::Release);
                    }
                }
                // What could not be erased when the line ended.
                let _ = super::status_line::erase_with(&mut Waiting(&mut out));
            })
            .map_err(|error| Error::os("start thread", "writer", error))?;
        Ok(Self { queue, unwritten, ended })
    }

    /// Queues a text, which `render` writes in the writer's thread. Never blocks: if the queue is
    /// full, the text is dropped.
    pub(crate) fn write(&self, render: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        // A full queue drops the text, which stays in the count.
        let _ = self.queue.try_send(Box::new(render));
    }

    /// Waits until all queued texts are written, at most for `timeout`. Returns the number of texts
    /// that were not written in whole: the queue was full, or standard error failed or was not read
    /// in time.
    pub(crate) fn finish(self, timeout: Duration) -> u64 {
        let unwritten = self.unwritten.clone();
        let _is_ended_or_late = self.ended().recv_timeout(timeout);
        unwritten.load(Ordering::Acquire)
    }

    /// Accepts no further text. The returned channel is disconnected when all queued texts are
    /// written or failed.
    pub(crate) fn ended(self) -> Receiver<()> {
        self.ended
    }
}

/// Waits if the descriptor is non-blocking, which another process that shares the open file can
/// make it at any time.
struct Waiting<W>(W);

impl<W: Write + AsFd> Write for Waiting<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(text) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_until_writable(self.0.as_fd())?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn wait_until_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    const LINES: usize = 40_000;

    /// Larger than a pipe's buffer, so that the writer blocks in the middle of it.
    fn long_text() -> String {
        (0..LINES).map(|line| format!("line {line}\n")).collect()
    }

    fn fill_queue_and_read(flags: OFlag) {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        fcntl(&pipe, FcntlArg::F_SETFL(flags)).expect("flags are set");
        let writer = Writer::start_on(pipe).expect("a thread");
        writer.write(|out| out.write_all(long_text().as_bytes()));
        // One byte has arrived: the thread has taken the text from the queue, and the rest of it
        // fills the pipe.
        let mut first = [0];
        reader.read_exact(&mut first).expect("the writer writes");
        let started = Instant::now();
        for number in 0..MAX_QUEUED_TEXTS + 3 {
            writer.write(move |out| writeln!(out, "text {number}"));
        }
        assert!(started.elapsed() < Duration::from_secs(1), "queuing does not wait for the reader");
        let reading = thread::spawn(move || {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).map(|_| rest)
        });
        assert_eq!(writer.finish(Duration::from_secs(60)), 3, "all but the dropped texts are written");
        let rest = reading.join().expect("no panic").expect("text");
        let queued: String = (0..MAX_QUEUED_TEXTS).map(|number| format!("text {number}\n")).collect();
        assert!(format!("{}{rest}", char::from(first[0])) == long_text() + &queued, "whole texts, in order");
    }

    #[test]
    fn a_full_pipe_drops_whole_texts_and_never_blocks_the_caller() {
        fill_queue_and_read(OFlag::empty());
    }

    #[test]
    fn a_non_blocking_pipe_gets_whole_texts() {
        fill_queue_and_read(OFlag::O_NONBLOCK);
    }

    #[test]
    fn finish_gives_up_on_a_reader_that_does_not_read() {
        let (_reader, pipe) = io::pipe().expect("a pipe");
        let writer = Writer::start_on(pipe).expect("a thread");
        writer.write(|out| out.write_all(long_text().as_bytes()));
        writer.write(|out| out.write_all(b"text"));
        assert_eq!(writer.finish(Duration::from_millis(20)), 2);
    }

    #[test]
    fn texts_for_a_closed_pipe_are_counted_as_dropped() {
        let (reader, pipe) = io::pipe().expect("a pipe");
        drop(reader);
        let writer = Writer::start_on(pipe).expect("a thread");
        writer.write(|out| out.write_all(b"text"));
        assert_eq!(writer.finish(Duration::from_secs(60)), 1);
    }
}
