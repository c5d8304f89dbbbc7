//! The file of an allow-list: who may write it, and what is in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::Uid;

use super::policy_trust::PathTrace;
use crate::allow::{self, AllowList};
use crate::error::{Error, Result};
use crate::rights;

/// The largest policy that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A policy that was read.
#[derive(Debug)]
pub(super) struct PolicyFile {
    pub text: String,
    pub list: AllowList,
}

impl PolicyFile {
    /// Reads a policy with the rights of the caller of sudo. As root, refuses one that other users
    /// can write: they could allow what a check has to find.
    pub fn read(path: &Path) -> Result<Self> {
        let caller = rights::caller()?;
        let shown = path.display().to_string();
        let failed = |error: io::Error| {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let error = Error::os("read", shown.clone(), error);
            if is_missing { error.hint("write one with `netwatch learn > netwatch.toml`") } else { error }
        };
        let open = || {
            let trace = PathTrace::of(path)?;
            // Opening a FIFO would wait for a writer. Links on the way were followed already.
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(trace.file())?;
            Ok((file, trace))
        };
        let (file, trace) = rights::as_user((caller.uid, caller.gid), open).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::other("read", shown, "not a regular file"));
        }
        if Uid::effective().is_root() {
            trace.require_trusted(&caller).map_err(|cause| {
                Error::other("trust", shown.clone(), cause)
                    .hint("only root and you may write it and every directory above it: use chmod go-w, or chown")
            })?;
        }
        let text = read_whole(file, MAX_BYTES).map_err(failed)?;
        let list = allow::parse(&text)
            .map_err(|error| Error::other("read", format!("{shown}:{}:{}", error.line, error.column), error.cause))?;
        Ok(Self { text, list })
    }

    /// Appends rules, with the rights of the caller of sudo. Nothing that is in the file is written
    /// again, so that a full disk cannot lose it.
    pub fn append(path: &Path, text: &str) -> Result<()> {
        let caller = rights::caller()?;
        let no_link = rights::link_flags(path, caller.uid);
        let open = || OpenOptions::new().append(true).custom_flags(no_link).open(path);
        let mut file = rights::as_user((caller.uid, caller.gid), open)
            .map_err(|error| Error::os("write", path.display().to_string(), error))?;
        file.write_all(text.as_bytes()).map_err(|error| Error::os("write", path.display().to_string(), error))
    }
}

/// The content of a file. Fails if it is larger: half a policy could lack keys that restrict it.
fn read_whole(file: File, max_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(max_bytes.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= max_bytes) {
        return Ok(text);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {} MiB", max_bytes >> 20)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    fn error(path: &Path) -> String {
        PolicyFile::read(path).expect_err("refused").to_string()
    }

    #[test]
    fn a_policy_that_others_can_write_is_refused_as_root() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to own the file");
        }
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("netwatch.toml");
        fs::write(&path, "[[allow]]\nport = 443\n").expect("written");
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
        mode(&path, 0o644);
        assert_eq!(PolicyFile::read(&path).expect("trusted").list.rules.len(), 1);
        mode(&path, 0o646);
        assert!(error(&path).contains("every user can change"), "{}", error(&path));
        mode(&path, 0o664);
        PolicyFile::read(&path).expect("the group of root");
        chown(&path, None, Some(65534)).expect("another group");
        assert!(error(&path).contains("its group (gid 65534)"), "{}", error(&path));
        mode(&path, 0o644);
        chown(&path, Some(65534), None).expect("another owner");
        assert!(error(&path).contains("its owner (uid 65534) can change"), "{}", error(&path));
        chown(&path, Some(0), None).expect("root again");
    }

    #[test]
    fn every_directory_and_link_on_the_way_counts() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: needs root to give files away");
        }
        let folder = tempfile::tempdir().expect("a directory");
        let [above, below, links] = ["above", "above/below", "links"].map(|name| folder.path().join(name));
        [&above, &below, &links].iter().for_each(|directory| fs::create_dir(directory).expect("created"));
        let (path, link) = (below.join("netwatch.toml"), links.join("link.toml"));
        fs::write(&path, "[[allow]]\nport = 443\n").expect("written");
        symlink("../above/below/./netwatch.toml", &link).expect("a link");
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
        let own = |path: &Path, uid| lchown(path, Some(uid), None).expect("another owner");
        let trusted = || assert_eq!(PolicyFile::read(&link).expect("trusted").list.rules.len(), 1);
        let refused = |who: &str, what: &Path| {
            let expected = format!("{who} can change {}", what.display());
            assert!(error(&link).contains(&expected), "{expected}: {}", error(&link));
        };
        trusted();
        for directory in [&above, &below, &links] {
            mode(directory, 0o777);
            refused("every user", directory);
            // As in /tmp, only the owner of a file can replace it, or the owner of the directory.
            mode(directory, 0o1777);
            trusted();
            own(directory, 65534);
            refused("its owner (uid 65534)", directory);
            own(directory, 0);
            mode(directory, 0o755);
        }
        own(&link, 65534);
        refused("its owner (uid 65534)", &link);
        own(&link, 0);
        trusted();
    }

    #[test]
    fn root_appends_to_no_link_where_everybody_may_write() {
        if !Uid::effective().is_root() {
            return eprintln!("skipped: the rule is about root");
        }
        let folder = tempfile::tempdir().expect("a directory");
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        symlink(&target, &link).expect("a link");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).expect("changed");
        let error = PolicyFile::append(&link, "# rules\n").expect_err("a link of anybody").to_string();
        assert!(error.contains("ELOOP") && !target.exists(), "{error}");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("changed");
        fs::write(&target, "").expect("written");
        PolicyFile::append(&link, "# rules\n").expect("a link of root");
        assert_eq!(fs::read_to_string(&target).expect("written"), "# rules\n");
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("netwatch.toml");
        symlink(&path, &path).expect("a link");
        assert!(error(&path).contains("ELOOP"), "{}", error(&path));
    }

    #[test]
    fn an_error_names_file_line_and_column() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("netwatch.toml");
        fs::write(&path, "# comment\n[[allow]]\nnam = \"app.example\"\n").expect("written");
        let error = error(&path);
        assert!(error.contains("netwatch.toml:3:1: unknown key nam, expected one of name, address"), "{error}");
    }

    #[test]
    fn a_policy_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("netwatch.toml");
        let rules = "[[allow]]\nport = 443\n";
        let rest = usize::try_from(MAX_BYTES).expect("fits") - rules.len();
        fs::write(&path, format!("{rules}{}", "#".repeat(rest))).expect("written");
        assert_eq!(PolicyFile::read(&path).expect("the largest policy").list.rules.len(), 1);
        fs::write(&path, format!("{rules}{}\naddress = \"host\"\n", "#".repeat(rest))).expect("written");
        assert!(error(&path).contains("larger than 16 MiB"), "{}", error(&path));
    }

    #[test]
    fn what_is_no_regular_file_is_no_policy() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("netwatch.toml");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
        for path in [path.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert!(error(path).contains("not a regular file"), "{}", error(path));
        }
    }
}
