//! Lines on their way to a reader that may be slower than the packets. A file beside the lines does
//! not wait for it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of bytes that wait for the reader.
const MAX_BYTES: usize = 16 << 20;
/// Time that the reader has for the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks at whether they are printed.
const SETTLE_INTERVAL: Duration = Duration::from_millis(2);

/// Takes lines without waiting. Another thread prints them.
pub(super) struct LineQueue {
    /// `None` after the last line.
    lines: Option<Sender<Vec<u8>>>,
    state: Arc<QueueState>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
}

#[derive(Default)]
struct QueueState {
    waiting_bytes: AtomicUsize,
    error: Mutex<Option<io::Error>>,
}

impl LineQueue {
    pub(super) fn start(mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel::<Vec<u8>>();
        let (ends, ended) = mpsc::channel();
        let state = Arc::<QueueState>::default();
        let own = state.clone();
        std::thread::Builder::new().name("lines".into()).spawn(move || {
            let _ends: Sender<()> = ends;
            for part in queue {
                if let Err(error) = out.write_all(&part).and_then(|()| out.flush()) {
                    *own.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                own.waiting_bytes.fetch_sub(part.len(), Ordering::Relaxed);
            }
        })?;
        Ok(Self { lines: Some(lines), state, ended })
    }

    /// Waits until everything is printed, for at most `timeout`.
    fn finish_within(&mut self, timeout: Duration) -> io::Result<()> {
        self.lines = None;
        match self.ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => Err(late()),
            _ => self.check(),
        }
    }

    /// Waits until everything is printed, for at most [`FINISH_TIMEOUT`].
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.finish_within(FINISH_TIMEOUT)
    }

    /// Waits until everything so far is printed, for at most [`FINISH_TIMEOUT`].
    pub(super) fn settle(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            self.check()?;
            if self.state.waiting_bytes.load(Ordering::Relaxed) == 0 {
                return Ok(());
            }
            if began.elapsed() >= FINISH_TIMEOUT {
                return Err(late());
            }
            std::thread::sleep(SETTLE_INTERVAL);
        }
    }

    fn check(&self) -> io::Result<()> {
        let error = self.state.error.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error.as_ref() else { return Ok(()) };
        Err(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
    }
}

impl Write for LineQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let waiting = self.state.waiting_bytes.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if waiting > MAX_BYTES {
            return Err(late());
        }
        match self.lines.as_ref().map(|lines| lines.send(bytes.to_vec())) {
            Some(Ok(())) => Ok(bytes.len()),
            // The thread has ended by an error since the check.
            _ => self.check().and_then(|()| Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()
    }
}

fn late() -> io::Error {
    io::Error::other("their reader is too slow")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until the sender is dropped.
    struct Stalled(Receiver<()>, Sender<usize>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (LineQueue, Sender<()>, Receiver<usize>) {
        let (release, stall) = mpsc::channel();
        let (sizes, written) = mpsc::channel();
        (LineQueue::start(Box::new(Stalled(stall, sizes))).expect("a thread"), release, written)
    }

    #[test]
    fn a_reader_that_takes_nothing_delays_nothing() {
        let (mut queue, _release, _written) = stalled();
        let part = vec![b'x'; MAX_BYTES / 4];
        (0..4).for_each(|_| queue.write_all(&part).expect("there is room"));
        assert!(queue.write_all(b"more").expect_err("no room").to_string().contains("too slow"));
        assert!(queue.finish_within(Duration::ZERO).is_err());
    }

    #[test]
    fn a_reader_that_goes_on_gets_everything() {
        let (mut queue, release, written) = stalled();
        (0..3).for_each(|_| queue.write_all(b"line").expect("there is room"));
        drop(release);
        queue.finish().expect("everything was read");
        assert_eq!(written.iter().take(3).sum::<usize>(), 12);
    }

    #[test]
    fn an_error_of_the_reader_is_returned() {
        let (here, there) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        drop(there);
        let mut queue = LineQueue::start(Box::new(here)).expect("a thread");
        queue.write_all(b"line").expect("it is not known yet");
        assert_eq!(queue.settle().expect_err("it has no reader").kind(), io::ErrorKind::BrokenPipe);
        assert!(queue.write_all(b"line").is_err());
    }

    #[test]
    fn an_error_at_the_end_is_returned() {
        let (here, there) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        drop(there);
        let mut queue = LineQueue::start(Box::new(here)).expect("a thread");
        queue.write_all(b"line").expect("it is not known yet");
        assert_eq!(queue.finish().expect_err("it has no reader").kind(), io::ErrorKind::BrokenPipe);
    }
}
