//! The archive that the kernel unpacks as its first file system: cpio in the "newc" format
//! (Documentation/driver-api/early-userspace/ buffer-format.rst in the kernel's sources). All files
//! belong to root.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// A member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveEntry {
    Directory,
    /// A copy of a file of this machine.
    Copy {
        from: PathBuf,
        executable: bool,
    },
    /// A symbolic link to this path.
    Link(PathBuf),
    /// A script.
    Script(&'static str),
}

/// Members by path, without a leading slash. Sorted, so that a directory precedes its contents.
#[derive(Debug, Default)]
pub struct Archive(BTreeMap<String, ArchiveEntry>);

impl Archive {
    /// Adds a member, and the directories above it.
    pub fn add(&mut self, path: &str, entry: ArchiveEntry) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(ArchiveEntry::Directory);
        }
        self.0.insert(path.to_owned(), entry);
    }

    /// Writes the whole archive.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.0) {
            let (mode, content) = match entry {
                ArchiveEntry::Directory => (0o040_755, Vec::new()),
                ArchiveEntry::Copy { from, executable } => {
                    (if *executable { 0o100_755 } else { 0o100_644 }, read(from)?)
                }
                ArchiveEntry::Link(to) => (0o120_777, to.as_os_str().as_encoded_bytes().to_vec()),
                ArchiveEntry::Script(text) => (0o100_755, text.as_bytes().to_vec()),
            };
            member(to, number, mode, path, &content)?;
        }
        member(to, 0, 0, "TRAILER!!!", &[])
    }
}

fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// One member: a header of 13 numbers in hexadecimal, the name with a zero byte, the content; the
/// last two padded to 4 bytes.
fn member(to: &mut impl Write, number: u32, mode: u32, name: &str, content: &[u8]) -> io::Result<()> {
    let size = u32::try_from(content.len()).map_err(io::Error::other)?;
    let name_size = name.len() as u32 + 1;
    let (owner, group, links, time, check) = (0, 0, 1, 0, 0);
    let device = [0; 4];
    write!(to, "070701{number:08x}{mode:08x}{owner:08x}{group:08x}{links:08x}{time:08x}{size:08x}")?;
    device.iter().try_for_each(|part: &u32| write!(to, "{part:08x}"))?;
    write!(to, "{name_size:08x}{check:08x}{name}\0")?;
    pad(to, HEADER + name.len() + 1)?;
    to.write_all(content)?;
    pad(to, content.len())
}

/// Bytes of a header.
const HEADER: usize = 6 + 13 * 8;

fn pad(to: &mut impl Write, length: usize) -> io::Result<()> {
    to.write_all(&[0; 3][..length.next_multiple_of(4) - length])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected bytes are those of `cpio -o -H newc` for the same tree, except inode numbers
    /// and times.
    #[test]
    fn writes_the_newc_format() {
        let mut archive = Archive::default();
        archive.add("/bin/sh", ArchiveEntry::Script("#!/x\n!"));
        archive.add("bin/to", ArchiveEntry::Link("sh".into()));
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("memory");
        let zero = "00000000";
        let header = |number: &str, mode: &str, size: &str, name: &str| {
            let owner_and_links = [zero, zero, "00000001", zero].concat();
            ["070701", number, mode, &owner_and_links, size, &zero.repeat(4), name, zero].concat()
        };
        let expected = [
            header("00000001", "000041ed", zero, "00000004"),
            "bin\0\0\0".to_owned(),
            header("00000002", "000081ed", "00000006", "00000007"),
            "bin/sh\0\0\0\0#!/x\n!\0\0".to_owned(),
            header("00000003", "0000a1ff", "00000002", "00000007"),
            "bin/to\0\0\0\0sh\0\0".to_owned(),
            header(zero, zero, zero, "0000000b"),
            "TRAILER!!!\0\0\0\0".to_owned(),
        ];
        assert_eq!(String::from_utf8_lossy(&bytes), expected.concat());
    }
}
