//! /proc/PID/mountinfo (proc(5)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::error::{Error, Result};

/// One mount: a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Unique within the mount namespace.
    pub id: u32,
    /// The id of the mount that it is mounted on.
    pub parent: u32,
    /// The directory or file in the file system that is mounted: `/` or a part of it.
    pub root: PathBuf,
    /// The mount point.
    pub point: PathBuf,
    /// `rw,nosuid,relatime`: options of this mount, not of the file system.
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

/// Parses the text of the file. Malformed lines are left out.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let (id, parent) = (number(next()?)?, number(next()?)?);
    let (_device, root, point, options) = (next()?, next()?, next()?, next()?);
    let (root, point, options) = (path(root), path(point), text(options));
    // Any number of optional fields (propagation), then a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    Some(Mount { id, parent, root, point, options, file_system: text(fields.next()?) })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// Blanks and backslashes are escaped as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
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

/// The visible mount at exactly this mount point: the last, if there are several.
pub fn at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    mounts.iter().rfind(|mount| mount.point == point)
}

/// All mounts of the calling thread's namespace.
pub fn read() -> Result<Vec<Mount>> {
    let path = "/proc/thread-self/mountinfo";
    fs::read(path).map(|text| parse(&text)).map_err(|error| Error::os("read", path, error))
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
    fn parses_the_documented_format() {
        let mounts = parse(TEXT.as_bytes());
        assert_eq!(mounts.len(), 6);
        let sys = at(&mounts, Path::new("/sys")).unwrap();
        assert_eq!((sys.id, sys.parent, sys.file_system.as_str()), (24, 1, "sysfs"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
        assert_eq!(sys.flags(), flags);
        assert_eq!(mounts[5].root, Path::new("/a b"));
        assert_eq!(mounts[5].point, Path::new("/mnt/with blank\\"));
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
