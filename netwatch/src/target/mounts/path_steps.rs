//! The lookups that lead to a file: every directory in which the kernel looks up a name, with links
//! followed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The limit of the kernel (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// A name that is looked up in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathStep {
    pub(super) dir: PathBuf,
    pub(super) name: OsString,
}

/// All steps to an absolute path: the last one is the file, or the first name that does not exist.
pub(super) fn steps(path: &Path) -> Vec<PathStep> {
    let mut steps = Vec::new();
    let mut todo: VecDeque<OsString> = names(path).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        steps.push(PathStep { dir: at.clone(), name });
        match fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    break;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                names(&target).rev().for_each(|name| todo.push_front(name));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => at = next,
            Err(_) => break,
        }
    }
    steps
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The steps below this directory, as `dir/name` lines.
    fn shown(root: &Path, file: &str) -> Vec<String> {
        let below = |step: PathStep| Some(step.dir.join(step.name).strip_prefix(root).ok()?.display().to_string());
        steps(&root.join(file)).into_iter().filter_map(below).filter(|step| !step.is_empty()).collect()
    }

    #[test]
    fn follows_links_of_every_kind() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("run/resolve")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("run/resolve/stub"), "").unwrap();
        symlink(root.join("run"), root.join("var")).unwrap();
        symlink("../var/resolve/stub", root.join("etc/a")).unwrap();
        symlink("a", root.join("etc/b")).unwrap();
        symlink("../gone/resolve/stub", root.join("etc/dangling")).unwrap();
        symlink("circle", root.join("etc/circle")).unwrap();
        let through = ["etc", "etc/b", "etc/a", "var", "run", "run/resolve", "run/resolve/stub"];
        assert_eq!(shown(&root, "etc/b"), through);
        assert_eq!(shown(&root, "etc/dangling"), ["etc", "etc/dangling", "gone"]);
        assert_eq!(shown(&root, "etc/circle").len(), 42);
        assert_eq!(shown(&root, "etc/none/x"), ["etc", "etc/none"]);
    }
}
