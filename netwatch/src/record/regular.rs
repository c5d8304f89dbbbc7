//! Opens files that another user may have created: never waits, and opens regular files only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file to read. Refuses a FIFO, which would wait for its other end (fifo(7)), and a
/// terminal, which could become the controlling terminal.
pub(super) fn read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true), 0)
}

/// Opens a file with these options and additional flags of open(2).
pub(super) fn open(path: &Path, options: &mut OpenOptions, flags: libc::c_int) -> io::Result<File> {
    let file = options.custom_flags(flags | libc::O_NOCTTY | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a file")) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use crate::record::{check, is_live, read_file, summary};

    /// Fails instead of hanging if a FIFO is waited for.
    fn within_seconds<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        std::thread::spawn(move || done.send(work()));
        result.recv_timeout(Duration::from_secs(10)).expect("nothing waits")
    }

    #[test]
    fn nothing_waits_for_a_fifo() {
        let folder = tempfile::tempdir().expect("a directory");
        let fifo = folder.path().join("20260101T120000.000Z-90814abc.netwatch");
        mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
        within_seconds({
            let fifo = fifo.clone();
            move || {
                assert!(!is_live(&fifo));
                assert!(check(&fifo).is_err());
                assert!(summary(&fifo).is_err());
                let error = read_file(&fifo).expect_err("no recording").to_string();
                assert!(error.contains("not a file"), "{error}");
            }
        });
        // Beside a recording.
        let recording = folder.path().join("x.netwatch");
        fs::write(&recording, header()).expect("written");
        for suffix in ["-wal", "-journal"] {
            let beside = folder.path().join(format!("x.netwatch{suffix}"));
            mkfifo(&beside, Mode::S_IRWXU).expect("a FIFO");
            let recording = recording.clone();
            let error = within_seconds(move || read_file(&recording)).expect_err("no recording").to_string();
            assert!(error.contains("not a file"), "{error}");
            fs::remove_file(&beside).expect("removed");
        }
    }

    /// The first bytes of a recording.
    fn header() -> Vec<u8> {
        let mut header = vec![0; 4096];
        header[..16].copy_from_slice(b"SQLite format 3\0");
        header[60..64].copy_from_slice(&crate::record::VERSION.to_be_bytes());
        header[68..72].copy_from_slice(&crate::record::schema::APPLICATION_ID.to_be_bytes());
        header
    }
}
