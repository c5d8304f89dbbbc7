//! The files of a capture, one after the other: a new one begins when the current one is large or
//! old enough.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::place::{CapturePlace, Compression, UnusedFile};
use super::sink::Sink;
use crate::error::{Error, Result};

/// When a new file begins, and how many are kept.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Maximum length of a file in bytes, before compression.
    pub max_bytes: Option<u64>,
    /// Maximum time between the first and the last packet of a file.
    pub max_time: Option<Duration>,
    /// Maximum number of files; the oldest is removed.
    pub max_files: Option<u32>,
}

impl Rotation {
    /// Whether there can be more than one file.
    pub fn is_on(&self) -> bool {
        self.max_bytes.is_some() || self.max_time.is_some()
    }
}

/// Where blocks are written.
#[derive(Debug)]
enum WriteTarget {
    /// Files that are created as needed.
    Place(Arc<CapturePlace>),
    /// An open stream with this name.
    Stream(String),
}

/// The files of a capture.
#[derive(Debug)]
pub(super) struct CaptureFiles {
    target: WriteTarget,
    rotation: Rotation,
    sink: Option<Sink>,
    opened: Instant,
    number: u32,
    names: VecDeque<String>,
    /// The current file, until something is written to it.
    unused: Option<UnusedFile>,
}

impl CaptureFiles {
    /// Opens the first file. Older files stay until something is written.
    pub(super) fn open(place: CapturePlace, rotation: Rotation) -> Result<Self> {
        place.require_compression()?;
        if rotation.is_on() {
            place.check_series(None)?;
        }
        let mut files = Self::new(WriteTarget::Place(Arc::new(place)), rotation, None);
        files.open_next()?;
        Ok(files)
    }

    /// Writes to a stream; `name` is its name in messages.
    pub(super) fn stream(stream: File, name: &str) -> Result<Self> {
        let sink = Sink::new(stream, Compression::None).map_err(|error| Error::os("write", name, error))?;
        Ok(Self::new(WriteTarget::Stream(name.to_owned()), Rotation::default(), Some(sink)))
    }

    fn new(target: WriteTarget, rotation: Rotation, sink: Option<Sink>) -> Self {
        Self { target, rotation, sink, opened: Instant::now(), number: 0, names: VecDeque::new(), unused: None }
    }

    /// Whether another file may follow.
    pub(super) fn may_rotate(&self) -> bool {
        self.rotation.is_on()
    }

    /// The number of the current file in its series; `None` if there is only one file.
    pub(super) fn number(&self) -> Option<u32> {
        self.rotation.is_on().then_some(self.number)
    }

    /// The path of the current file, for messages.
    pub(super) fn path(&self) -> String {
        match &self.target {
            WriteTarget::Place(place) => place.path_of(self.names.back().map_or("", String::as_str)),
            WriteTarget::Stream(name) => name.clone(),
        }
    }

    /// Whether the next packet belongs into a new file. `pending` bytes wait to be written.
    pub(super) fn is_full(&self, pending: usize) -> bool {
        let bytes = self.sink.as_ref().map_or(0, |sink| sink.bytes) + pending as u64;
        self.rotation.max_bytes.is_some_and(|max| bytes >= max)
            || self.rotation.max_time.is_some_and(|max| self.opened.elapsed() >= max)
    }

    /// Completes the current file.
    pub(super) fn close(&mut self) -> Result<()> {
        self.check_name()?;
        let path = self.path();
        self.sink.take().map_or(Ok(()), |sink| sink.finish().map_err(|error| Error::os("write", path, error)))
    }

    /// Opens the next file, and removes the oldest if there are too many.
    pub(super) fn open_next(&mut self) -> Result<()> {
        let WriteTarget::Place(place) = &self.target else { return Ok(()) };
        self.number += 1;
        let name = place.name(self.rotation.is_on().then_some(self.number));
        let (file, unused) = match self.rotation.is_on() {
            false => place.open_named()?,
            true => place.create_unused(&name).map(|(file, unused)| (file, Some(unused)))?,
        };
        self.unused = unused;
        let sink = Sink::new(file, place.compression);
        self.sink = Some(sink.map_err(|error| Error::os("write", place.path_of(&name), error))?);
        self.opened = Instant::now();
        self.names.push_back(name);
        while self.rotation.max_files.is_some_and(|max| self.names.len() > max as usize) {
            if let Some(oldest) = self.names.pop_front() {
                place.remove(&oldest)?;
            }
        }
        Ok(())
    }

    /// Writes whole blocks. A file has its name when the first ones are written: on a full disk
    /// there is no empty file, and an older one stays.
    pub(super) fn write(&mut self, blocks: &[u8]) -> Result<()> {
        self.apply(|sink| sink.write(blocks))?;
        if blocks.is_empty() || self.unused.is_none() {
            return Ok(());
        }
        self.apply(Sink::flush)?;
        self.keep()
    }

    /// Replaces older files.
    fn keep(&mut self) -> Result<()> {
        match self.unused.take() {
            None => Ok(()),
            Some(first) if self.rotation.is_on() && self.number == 1 => first.keep_as_first(),
            Some(file) => file.keep(),
        }
    }

    /// Makes everything that was written readable for others.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.apply(Sink::flush)?;
        self.check_name()
    }

    /// A file that lost its name is gone when it is closed.
    fn check_name(&self) -> Result<()> {
        let has_had_name = matches!(self.target, WriteTarget::Place(_)) && self.unused.is_none();
        let is_deleted = has_had_name && self.sink.as_ref().is_some_and(Sink::is_deleted);
        if is_deleted { Err(Error::other("write", self.path(), "the file was deleted")) } else { Ok(()) }
    }

    fn apply(&mut self, action: impl FnOnce(&mut Sink) -> std::io::Result<()>) -> Result<()> {
        let path = self.path();
        let Some(sink) = &mut self.sink else { return Ok(()) };
        action(sink).map_err(|error| Error::os("write", path, error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::unistd::{Gid, Uid};

    use super::*;

    const ROTATION: Rotation = Rotation { max_bytes: Some(1), max_time: None, max_files: None };

    fn open(dir: &Path, rotation: Rotation, replaces: bool) -> Result<CaptureFiles> {
        let path = dir.join("x.pcapng.zst");
        CaptureFiles::open(CapturePlace::open(&path, (Uid::effective(), Gid::effective()), replaces)?, rotation)
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn an_earlier_series_is_refused_or_removed_as_a_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let others = ["x-1.pcapng.zst", "x-00002.pcapng", "x-00003a.pcapng.zst", "xx-00002.pcapng.zst"];
        for name in ["x-00002.pcapng.zst", "x-123456.pcapng.zst"].iter().chain(&others) {
            std::fs::write(dir.path().join(name), "older").expect("written");
        }
        let refused = open(dir.path(), ROTATION, false).expect_err("there is a series").to_string();
        assert!(refused.contains("x-00002.pcapng.zst") && refused.contains("--force"), "{refused}");
        assert!(!dir.path().join("x-00001.pcapng.zst").exists());
        let before = names(dir.path());
        drop(open(dir.path(), ROTATION, true).expect("opened"));
        assert_eq!(names(dir.path()), before, "the capture did not start");
        std::fs::write(dir.path().join("x-00001.pcapng.zst"), "older").expect("written");
        let mut files = open(dir.path(), ROTATION, true).expect("opened");
        files.write(b"block").expect("written");
        files.close().expect("closed");
        let mut expected: Vec<&str> = others.iter().copied().chain(["x-00001.pcapng.zst"]).collect();
        expected.sort_unstable();
        assert_eq!(names(dir.path()), expected);
    }

    /// The first file has no name until the capture starts.
    #[test]
    fn of_two_series_that_start_together_the_second_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let [mut first, mut second] = [(); 2].map(|()| open(dir.path(), ROTATION, false).expect("opened"));
        first.write(b"block").expect("written");
        first.open_next().expect("opened");
        first.write(b"block").expect("written");
        std::fs::remove_file(dir.path().join("x-00001.pcapng.zst")).expect("removed");
        let refused = second.write(b"block").expect_err("there is a series").to_string();
        assert!(refused.contains("x-00002.pcapng.zst") && refused.contains("--force"), "{refused}");
        drop(second);
        first.write(b"block").expect("written");
        first.close().expect("it has its name");
        assert_eq!(names(dir.path()), ["x-00002.pcapng.zst"]);
    }

    #[test]
    fn a_full_disk_leaves_no_empty_file_and_an_older_one_as_it_was() {
        for (rotation, name) in [(Rotation::default(), "x.pcapng.zst"), (ROTATION, "x-00001.pcapng.zst")] {
            let dir = tempfile::tempdir().expect("a directory");
            for replaces in [false, true] {
                for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                    let mut files = open(dir.path(), rotation, replaces).expect("opened");
                    let full = File::options().write(true).open("/dev/full").expect("opened");
                    files.sink = Some(Sink::new(full, compression).expect("created"));
                    let error = files.write(b"block").expect_err("the device is full").to_string();
                    assert!(error.contains(name) && error.contains("(ENOSPC)"), "{error}");
                    drop(files);
                    let older = std::fs::read(dir.path().join(name)).ok();
                    assert_eq!(older.as_deref(), replaces.then_some(&b"older"[..]), "{compression:?}");
                }
                std::fs::write(dir.path().join(name), "older").expect("written");
            }
        }
    }

    #[test]
    fn the_next_file_of_a_series_has_its_name_when_it_has_its_head() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = open(dir.path(), ROTATION, false).expect("opened");
        for number in 1..3 {
            files.write(b"block").expect("written");
            files.close().expect("closed");
            files.open_next().expect("opened");
            assert_eq!(names(dir.path()).len(), number);
        }
    }

    #[test]
    fn a_directory_among_the_names_of_a_series_is_refused_before_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("x-00002.pcapng.zst")).expect("created");
        std::fs::write(dir.path().join("x-00001.pcapng.zst"), "older").expect("written");
        let refused = open(dir.path(), ROTATION, true).expect_err("it cannot be replaced").to_string();
        assert!(refused.contains("x-00002.pcapng.zst") && refused.contains("(EISDIR)"), "{refused}");
        assert_eq!(names(dir.path()), ["x-00001.pcapng.zst", "x-00002.pcapng.zst"]);
    }

    #[test]
    fn a_capture_that_does_not_start_leaves_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        for rotation in [Rotation::default(), ROTATION] {
            drop(open(dir.path(), rotation, false).expect("opened"));
            assert!(names(dir.path()).is_empty());
        }
        let mut files = open(dir.path(), Rotation::default(), false).expect("opened");
        files.write(b"block").expect("written");
        drop(files);
        assert_eq!(names(dir.path()), ["x.pcapng.zst"]);
    }
}
