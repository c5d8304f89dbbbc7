//! The secrets of the command's TLS and QUIC connections (`--keylog`): the file of SSLKEYLOGFILE,
//! and the wait for the secrets of a connection before its packets are written. A reader of the
//! capture decrypts only packets that come after the secrets.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid};

use crate::capture::write::Layout;
use crate::error::{Error, Result};
use crate::flow::{Direction, FlowKey};
use crate::meter::RingPacket;
use crate::wire::quic::QuicHandshake;

/// Maximum length of all secrets of a capture, bytes. Each file of a rotation contains all so far.
const MAX_SECRETS_BYTES: usize = 4 << 20;
/// Maximum number of connections whose secrets are awaited.
const MAX_CONNECTIONS: usize = 4096;
/// Time that the packets of a connection wait for its secrets. The ring has room meanwhile.
const SECRETS_TIMEOUT: Duration = Duration::from_millis(300);
/// Pause between two looks at the file.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// After this many connections in a row without secrets, packets wait no more: the command does not
/// write any.
const MAX_TIMEOUTS: u32 = 3;
/// What a TLS record with a ClientHello begins with: type, version, length, type of the message.
const CLIENT_HELLO: (u8, u8, u8) = (22, 3, 1);
/// Where the random of a ClientHello is in its record: after the headers and the version.
const RANDOM: std::ops::Range<usize> = 11..43;
/// Longer than any line of secrets, bytes.
const MAX_LINE: u64 = 4096;
/// The last secrets that a client writes: for TLS 1.3 and QUIC, and for older versions.
const LAST_SECRETS: [&str; 2] = ["CLIENT_TRAFFIC_SECRET_0", "CLIENT_RANDOM"];

/// The file of SSLKEYLOGFILE.
#[derive(Debug)]
pub struct KeyLog {
    file: File,
    /// Length of the complete lines that were read.
    read: u64,
    /// Length of all secrets so far.
    secrets: usize,
    /// Connections whose server has not answered: the side of the client, and the random of its
    /// ClientHello in hexadecimal.
    connections: HashMap<FlowKey, (Direction, String)>,
    /// The randoms of connections whose last secrets were read.
    complete: HashSet<String>,
    timeouts: u32,
}

impl KeyLog {
    /// Creates the file in a run directory. Only the user of the command can read and write it.
    pub fn create(run_dir: &Path, (uid, gid): (Uid, Gid)) -> Result<(Self, PathBuf)> {
        let path = run_dir.join("keys");
        let failed = |error| Error::os("create", path.display().to_string(), error);
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        fchown(&file, Some(uid.as_raw()), Some(gid.as_raw())).map_err(failed)?;
        Ok((Self::new(file), path))
    }

    fn new(file: File) -> Self {
        let (connections, complete) = (HashMap::new(), HashSet::new());
        Self { file, read: 0, secrets: 0, connections, complete, timeouts: 0 }
    }

    /// Another reader of the same file, from its beginning.
    pub fn duplicate(&self) -> Result<Self> {
        let failed = |error| Error::os("duplicate", "a file descriptor", error);
        self.file.try_clone().map(Self::new).map_err(failed)
    }

    /// Skips the secrets so far: those of connections that have begun.
    pub fn skip(&mut self) {
        self.read = self.end_of_lines().unwrap_or(self.read);
        self.complete.clear();
    }

    /// Where the last complete line of the file ends. A line of secrets is shorter than what is
    /// searched.
    fn end_of_lines(&self) -> std::io::Result<u64> {
        let length = self.file.metadata()?.len();
        let from = length.saturating_sub(MAX_LINE);
        let mut tail = vec![0; (length - from) as usize];
        let read = self.file.read_at(&mut tail, from)?;
        let end = tail[..read].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Ok(from + end as u64)
    }

    /// The secrets that are new and that these packets may need. Waits for those of a connection
    /// when its server answers.
    pub(super) fn secrets_for<'a>(
        &mut self,
        packets: impl Iterator<Item = (RingPacket<'a>, Option<FlowKey>)>,
    ) -> Vec<u8> {
        let mut secrets = self.new_secrets();
        for (packet, flow) in packets {
            if let Some(random) = flow.and_then(|flow| self.answered(&packet, flow)) {
                self.wait_for(&random, &mut secrets);
            }
        }
        secrets
    }

    /// The random of the connection, if this packet is the first answer of its server.
    fn answered(&mut self, packet: &RingPacket<'_>, flow: FlowKey) -> Option<String> {
        let layout = Layout::of(packet.bytes)?;
        let payload = packet.bytes.get(layout.payload..layout.end.min(packet.bytes.len()))?;
        let is_known = self.connections.contains_key(&flow);
        let random = match layout.is_tcp {
            true => client_random(payload),
            false if is_known => None,
            false => quic_random(payload),
        };
        if let Some(random) = random {
            if self.connections.len() >= MAX_CONNECTIONS {
                self.connections.clear();
            }
            self.connections.insert(flow, (packet.direction, random));
            return None;
        }
        let (client, _) = self.connections.get(&flow)?;
        if payload.is_empty() || *client == packet.direction {
            return None;
        }
        self.connections.remove(&flow).map(|(_, random)| random)
    }

    /// Reads until the last secrets of a connection are there.
    fn wait_for(&mut self, random: &str, secrets: &mut Vec<u8>) {
        if self.timeouts >= MAX_TIMEOUTS || self.complete.remove(random) {
            return;
        }
        let deadline = Instant::now() + SECRETS_TIMEOUT;
        while Instant::now() < deadline {
            secrets.extend(self.new_secrets());
            if self.complete.remove(random) {
                self.timeouts = 0;
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        self.timeouts += 1;
    }

    /// The complete lines since the last call. A file that cannot be read has none.
    pub(super) fn new_secrets(&mut self) -> Vec<u8> {
        let bytes = self.unread().unwrap_or_default();
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += end as u64;
        let lines = bytes[..end].split_inclusive(|byte| *byte == b'\n').filter_map(|line| Some((line, parse(line)?)));
        let mut secrets = Vec::new();
        for (line, random) in lines {
            secrets.extend_from_slice(line);
            self.complete.extend(random);
        }
        self.secrets += secrets.len();
        secrets
    }

    /// What the file has beyond what was read, within the limit. The position in the file is that
    /// of all its readers, and is not used.
    fn unread(&self) -> std::io::Result<Vec<u8>> {
        let room = MAX_SECRETS_BYTES.saturating_sub(self.secrets) as u64;
        let unread = self.file.metadata()?.len().saturating_sub(self.read);
        let mut bytes = vec![0; unread.min(room) as usize];
        let length = self.file.read_at(&mut bytes, self.read)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// `None` for lines that are not `LABEL RANDOM SECRET`, such as comments, which are not part of a
/// capture. Otherwise the random, if these are the last secrets of a connection.
#[expect(clippy::option_option, reason = "no secrets, some secrets, the last secrets")]
fn parse(line: &[u8]) -> Option<Option<String>> {
    let text = str::from_utf8(line).ok()?;
    let [label, random, secret] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_label = label.bytes().all(|byte| byte.is_ascii_uppercase() || b"_0123456789".contains(&byte));
    let is_last = LAST_SECRETS.contains(&label);
    (is_label && is_hex(random) && is_hex(secret)).then(|| is_last.then(|| random.to_ascii_lowercase()))
}

/// The random of the ClientHello at the start of a payload, in hexadecimal.
fn client_random(payload: &[u8]) -> Option<String> {
    let is_hello =
        matches!(payload, [kind, version, _, _, _, message, ..] if (*kind, *version, *message) == CLIENT_HELLO);
    payload.get(RANDOM).filter(|_| is_hello).map(hexadecimal)
}

/// The random of a ClientHello in a datagram of QUIC, whose keys follow from the datagram.
fn quic_random(datagram: &[u8]) -> Option<String> {
    let mut handshake = QuicHandshake::default();
    handshake.observe(datagram)?;
    handshake.client_random().map(hexadecimal)
}

fn hexadecimal(random: &[u8]) -> String {
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn complete_lines_with_secrets_are_read_once() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut log = KeyLog::new(file.try_clone().expect("a duplicate"));
        // The position in the file is shared; the command has its own.
        let mut write = |text: &str| {
            file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(text.as_bytes())).expect("written");
        };
        write("# a comment\nCLIENT_RANDOM 0a 0b\nCLIENT_TR");
        assert_eq!(log.new_secrets(), b"CLIENT_RANDOM 0a 0b\n");
        assert_eq!(log.new_secrets(), b"");
        write("AFFIC_SECRET_0 0c 0d\nnot a secret\n");
        assert_eq!(log.new_secrets(), b"CLIENT_TRAFFIC_SECRET_0 0c 0d\n");
        assert_eq!(log.complete, HashSet::from(["0a".to_owned(), "0c".to_owned()]));
    }

    /// A tail that attaches later.
    #[test]
    fn another_reader_has_only_what_comes_later() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut log = KeyLog::new(file.try_clone().expect("a duplicate"));
        let mut later = log.duplicate().expect("a duplicate");
        // Longer than all secrets that a capture may have, and a line that is being written.
        let old = format!("CLIENT_RANDOM 0a {}\n", "0".repeat(1000)).repeat(MAX_SECRETS_BYTES / 1000);
        file.write_all(old.as_bytes()).expect("written");
        file.write_all(b"CLIENT_RANDOM 0c").expect("written");
        later.skip();
        file.write_all(b" 0d\n").expect("written");
        assert_eq!(later.new_secrets(), b"CLIENT_RANDOM 0c 0d\n");
        assert_eq!(later.complete, HashSet::from(["0c".to_owned()]));
        assert!(log.new_secrets().starts_with(b"CLIENT_RANDOM 0a 0"));
    }

    #[test]
    fn packets_wait_for_secrets_only_while_there_are_some() {
        let mut log = KeyLog::new(tempfile::tempfile().expect("a file"));
        for _ in 0..MAX_TIMEOUTS {
            log.wait_for("0a", &mut Vec::new());
        }
        let started = Instant::now();
        log.wait_for("0a", &mut Vec::new());
        assert!(started.elapsed() < SECRETS_TIMEOUT, "no wait");
    }

    #[test]
    fn the_random_of_a_hello_is_found() {
        let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
        hello.extend(0..32);
        assert_eq!(client_random(&hello).map(|random| random[..8].to_owned()), Some("00010203".to_owned()));
        assert_eq!(client_random(&hello[..42]), None);
        hello[5] = 2;
        assert_eq!(client_random(&hello), None, "a ServerHello");
    }
}
