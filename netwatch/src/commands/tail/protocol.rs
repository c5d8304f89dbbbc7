//! How a tail attaches to a run: it connects to a socket in the run directory and sends a request
//! in a line of JSON. The run answers in a line of JSON and then sends pcapng until one of both
//! ends. Only root and the user who started the run can connect.

use std::io::{self, BufRead, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::filter::FilterProgram;

/// Maximum length of a message, bytes.
const MAX_MESSAGE_BYTES: u64 = 256 * 1024;

/// What to capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailRequest {
    /// Maximum number of bytes of each packet.
    pub snaplen: u32,
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
    /// Capture packets that the target sends.
    pub egress: bool,
    /// Capture packets that the target receives.
    pub ingress: bool,
    /// Keep super-frames as they were observed.
    pub super_frames: bool,
    /// Add the secrets of TLS connections.
    #[serde(default)]
    pub keylog: bool,
    /// Which packets are captured.
    pub filter: Option<FilterProgram>,
    /// The expression of the filter.
    pub expression: Option<String>,
}

/// The answer of the run.
#[derive(Debug, Serialize, Deserialize)]
pub enum TailAnswer {
    /// The capture has started. Contains what the head of its file states.
    Started {
        /// The operating system.
        os: String,
        /// The command, its user, and the id of the run.
        comment: String,
        /// The name of the interface.
        interface: String,
        /// Why the run and not the kernel filters the packets, if so.
        #[serde(default)]
        filter_error: Option<String>,
    },
    /// It could not be started.
    Refused(Error),
}

/// The socket in a run directory.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("tail.sock")
}

/// Sends a message.
pub fn send(mut stream: &UnixStream, message: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec(message).expect("messages are plain data");
    text.push(b'\n');
    stream.write_all(&text).map_err(|error| Error::os("send to", "the other process", error))
}

/// Receives a message. Reads no byte after it.
pub fn receive<T: DeserializeOwned>(stream: &UnixStream) -> Result<T> {
    let failed = |error: io::Error| Error::os("receive from", "the other process", error);
    let mut line = Vec::new();
    // Byte by byte, so that the capture after the message is not read.
    io::BufReader::with_capacity(1, stream.take(MAX_MESSAGE_BYTES)).read_until(b'\n', &mut line).map_err(failed)?;
    if line.is_empty() {
        // As if it had closed the connection while a message was on its way.
        return Err(failed(Errno::ECONNRESET.into()));
    }
    serde_json::from_slice(&line)
        .map_err(|error| Error::other("parse message of", "the other process", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_and_what_follows_is_left() {
        let (here, there) = UnixStream::pair().expect("a pair of sockets");
        let request = TailRequest {
            snaplen: 96,
            ring_bytes: 1,
            egress: true,
            ingress: false,
            super_frames: false,
            keylog: true,
            filter: None,
            expression: None,
        };
        send(&here, &request).expect("sent");
        (&here).write_all(b"rest").expect("sent");
        assert_eq!(receive::<TailRequest>(&there).expect("received"), request);
        let mut rest = [0; 4];
        (&there).read_exact(&mut rest).expect("received");
        assert_eq!(&rest, b"rest");
        drop(here);
        let error = receive::<TailRequest>(&there).expect_err("closed");
        assert_eq!(error.errno(), Some(Errno::ECONNRESET), "{error}");
    }
}
