//! /proc/self/mountinfo (proc(5)), and how to put a new mount in a place without losing what is mounted below it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::error::{Error, Result};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Unique within the namespace.
    pub id: u32,
    /// The mount it is mounted on.
    pub parent: u32,
    /// Where.
    pub point: PathBuf,
    /// `rw,nosuid,relatime`: of this mount, not of the file system.
    pub options: String,
    /// `sysfs`, `ext4`.
    pub file_system: String,
}

impl Mount {
    /// The flags that repeat these options for another mount.
    pub fn flags(&self) -> MsFlags {
        let known = [
            ("ro", MsFlags::MS_RDONLY),
            ("nosuid", MsFlags::MS_NOSUID),
            ("nodev", MsFlags::MS_NODEV),
            ("noexec", MsFlags::MS_NOEXEC),
            ("noatime", MsFlags::MS_NOATIME),
            ("relatime", MsFlags::MS_RELATIME),
        ];
        let has = |name: &str| self.options.split(',').any(|option| option == name);
        known.into_iter().filter(|(name, _)| has(name)).map(|(_, flag)| flag).collect()
    }
}

/// Reads the file's text; lines that are not as documented are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let (id, parent) = (number(next()?)?, number(next()?)?);
    let (_device, _root, point, options) = (next()?, next()?, next()?, next()?);
    let (point, options) = (PathBuf::from(OsString::from_vec(unescaped(point))), text(options));
    // The optional fields (propagation) are as many as they are, up to a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    Some(Mount { id, parent, point, options, file_system: text(fields.next()?) })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// Blanks and backslashes are written as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3).and_then(octal)).flatten();
        plain.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// The mount that is seen at exactly this place: of several, the last.
pub fn at<'a>(mounts: &'a [Mount], place: &Path) -> Option<&'a Mount> {
    mounts.iter().rfind(|mount| mount.point == place)
}

/// All mounts of the calling thread's namespace.
pub(super) fn read() -> Result<Vec<Mount>> {
    let path = "/proc/thread-self/mountinfo";
    fs::read(path).map(|text| parse(&text)).map_err(|error| Error::os("read", path, error))
}

/// Does `cover`, which mounts something at `place`, and takes what was mounted below along. Returns what could not be taken.
pub(super) fn keeping_submounts(
    mounts: &[Mount],
    place: &Path,
    cover: impl FnOnce() -> Result<()>,
) -> Result<Vec<Error>> {
    let below = tops_below(mounts, place);
    let handles = below.iter().map(|point| handle(point)).collect::<Result<Vec<_>>>()?;
    cover()?;
    let carried = below.iter().zip(&handles).map(|(point, handle)| carry_over(handle, point));
    Ok(carried.filter_map(Result::err).collect())
}

/// What is mounted below a place on the mount that is seen there. What is mounted below these comes along with them, and what hides
/// below another mount at the same place cannot be reached anyway.
fn tops_below<'a>(mounts: &'a [Mount], place: &Path) -> Vec<&'a Path> {
    let around = mounts.iter().filter(|mount| place.starts_with(&mount.point));
    let Some(seen) = around.max_by_key(|mount| mount.point.components().count()) else { return Vec::new() };
    let points = mounts.iter().filter(|mount| mount.parent == seen.id).map(|mount| mount.point.as_path());
    points.filter(|point| *point != place && point.starts_with(place)).collect()
}

/// Holds on to a mount whose path will soon lead elsewhere.
fn handle(point: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(point)
        .map_err(|error| Error::os("open", point.display().to_string(), error))
}

/// The mount is moved, not copied: nobody sees the old place any more, and a move keeps what is mounted below it.
fn carry_over(handle: &File, point: &Path) -> Result<()> {
    let from = format!("/proc/thread-self/fd/{}", handle.as_raw_fd());
    mount(Some(from.as_str()), point, None::<&Path>, MsFlags::MS_MOVE, None::<&Path>)
        .map_err(|errno| Error::os("carry over the mount at", point.display().to_string(), errno))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
24 1 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
25 24 0:6 / /sys/kernel/security rw,relatime shared:8 master:1 - securityfs securityfs rw
28 24 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs rw
29 28 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
31 24 0:27 / /sys/fs/cgroup-two rw - tmpfs tmpfs rw
40 1 8:1 /a\\040b /mnt/with\\040blank\\134 rw - ext4 /dev/sda rw
nonsense
";

    #[test]
    fn reads_the_documented_format() {
        let mounts = parse(TEXT.as_bytes());
        assert_eq!(mounts.len(), 6);
        let sys = at(&mounts, Path::new("/sys")).unwrap();
        assert_eq!((sys.id, sys.parent, sys.file_system.as_str()), (24, 1, "sysfs"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
        assert_eq!(sys.flags(), flags);
        assert_eq!(mounts[5].point, Path::new("/mnt/with blank\\"));
    }

    #[test]
    fn finds_the_topmost_mounts_below_a_place() {
        let mounts = parse(TEXT.as_bytes());
        let tops = tops_below(&mounts, Path::new("/sys"));
        let expected = ["/sys/kernel/security", "/sys/fs/cgroup", "/sys/fs/cgroup-two"];
        assert_eq!(tops, expected.map(Path::new));
    }

    proptest! {
        #[test]
        fn never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&text);
            let mut line = b"1 2 0:1 / ".to_vec();
            line.extend(text);
            parse(&line);
        }
    }
}
