//! The updates of a run, read in a thread.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::thread;

use super::TopEvent;
use super::protocol::ViewerGreeting;
use crate::dashboard::Update;
use crate::error::{Error, Result};

/// Maximum length of a line: a process can have long arguments.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Updates that are passed on together, before the interval ends.
const MAX_BATCH: usize = 16_384;

/// Reads the greeting.
pub(super) fn open(stream: UnixStream) -> Result<BufReader<UnixStream>> {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut line = Vec::new();
    read_line(&mut reader, &mut line).map_err(|error| Error::os("read from", "the run", error))?;
    let greeting: ViewerGreeting = serde_json::from_slice(&line)
        .map_err(|_| Error::other("attach to", "the run", "it ended, or another version of netwatch started it"))?;
    greeting.accept()?;
    Ok(reader)
}

/// Reads a line with its end. Empty at the end of the stream.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<()> {
    line.clear();
    reader.take(MAX_LINE_BYTES).read_until(b'\n', line)?;
    Ok(())
}

/// Starts the thread.
pub(super) fn start(reader: BufReader<UnixStream>, events: SyncSender<TopEvent>) -> Result<()> {
    let work = move || {
        let why = pass_on(reader, &events);
        // Fails only if the dashboard was closed.
        let _ = events.send(TopEvent::Disconnected(why));
    };
    let thread = thread::Builder::new().name("updates".into()).spawn(work);
    thread.map(drop).map_err(|error| Error::os("start thread", "updates", error))
}

/// Passes updates on until the end. Returns why there are no more.
fn pass_on(mut reader: impl BufRead, events: &SyncSender<TopEvent>) -> String {
    let mut line = Vec::new();
    let mut batch = Vec::new();
    loop {
        match read_line(&mut reader, &mut line) {
            Ok(()) if line.is_empty() => return "it was killed".to_owned(),
            Ok(()) if !line.ends_with(b"\n") => return "the last changes are missing".to_owned(),
            Ok(()) => {}
            Err(error) => return error.to_string(),
        }
        let update = match serde_json::from_slice::<Update>(&line) {
            Ok(update) => update,
            Err(error) => return format!("unreadable update: {error}"),
        };
        let how = if let Update::Ended(how) = &update { Some(how.clone()) } else { None };
        let is_due = matches!(update, Update::Tick(_) | Update::Ended(_));
        batch.push(update);
        if (is_due || batch.len() >= MAX_BATCH) && events.send(TopEvent::Updates(std::mem::take(&mut batch))).is_err() {
            return String::new();
        }
        if let Some(how) = how {
            return how;
        }
    }
}
