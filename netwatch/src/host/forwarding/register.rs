//! The switch register: the old value of each switch, the runs that use it, and the routing rules
//! that guard the host meanwhile. One file for each network namespace, shared by parallel runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rules::{PolicyRule, PolicyRuleKind};
use crate::error::{Error, Result};
use crate::host::sysctl;
use crate::proc::mountinfo;
use crate::undo::{Exclusive, RunId, root};

/// One switch in the switch register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchEntry {
    /// The value before the first run.
    pub original: String,
    /// The value that netwatch wrote.
    pub set: String,
    /// The value of the namespace-wide switch of the same name when netwatch wrote. If that differs
    /// later, another program has switched all interfaces, and netwatch must not put this one back.
    pub global: Option<String>,
    /// The runs that use it.
    pub runs: Vec<RunId>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct RegisterContent {
    /// Inode of the namespace, to check whether it still exists.
    netns_inode: u64,
    entries: BTreeMap<String, SwitchEntry>,
    /// The routing rules that netwatch has added or is about to add.
    #[serde(default)]
    rules: Vec<PolicyRule>,
}

/// The contents of the file, valid while [`Exclusive`] is held.
#[derive(Debug)]
pub struct SwitchRegister<'a> {
    path: PathBuf,
    content: RegisterContent,
    _held: &'a Exclusive,
}

impl<'a> SwitchRegister<'a> {
    /// The switch register of the thread's own namespace, which has this cookie.
    pub fn open(cookie: u64, held: &'a Exclusive) -> Result<Self> {
        let found = Self::find(cookie, held)?;
        found.map_or_else(
            || {
                let content = RegisterContent { netns_inode: sysctl::netns_inode()?, ..RegisterContent::default() };
                Ok(Self { path: path(cookie)?, content, _held: held })
            },
            Ok,
        )
    }

    /// The switch register of any namespace, if there is one.
    pub fn find(cookie: u64, held: &'a Exclusive) -> Result<Option<Self>> {
        let path = path(cookie)?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::os("read", path.display().to_string(), error)),
        };
        let content = serde_json::from_slice(&text)
            .map_err(|error| Error::other("read", path.display().to_string(), error.to_string()))?;
        Ok(Some(Self { path, content, _held: held }))
    }

    pub fn entries(&self) -> &BTreeMap<String, SwitchEntry> {
        &self.content.entries
    }

    pub fn entries_mut(&mut self) -> &mut BTreeMap<String, SwitchEntry> {
        &mut self.content.entries
    }

    pub fn rules(&self) -> &[PolicyRule] {
        &self.content.rules
    }

    /// Enters a rule unless there is one of its kind; `place` chooses its priority.
    pub fn add_rule(
        &mut self,
        kind: PolicyRuleKind,
        place: impl FnOnce(PolicyRuleKind) -> Result<PolicyRule>,
    ) -> Result<()> {
        if self.content.rules.iter().all(|rule| rule.kind != kind) {
            self.content.rules.push(place(kind)?);
        }
        Ok(())
    }

    /// Takes out the rules that are not to be kept.
    pub fn take_rules(&mut self, is_kept: impl Fn(&PolicyRuleKind) -> bool) -> Vec<PolicyRule> {
        let (kept, taken) = std::mem::take(&mut self.content.rules).into_iter().partition(|rule| is_kept(&rule.kind));
        self.content.rules = kept;
        taken
    }

    /// Whether this run uses anything.
    pub fn lists(&self, run: &RunId) -> bool {
        let passes = |rule: &PolicyRule| matches!(&rule.kind, PolicyRuleKind::Pass { run: of, .. } if of == run);
        self.content.entries.values().any(|entry| entry.runs.contains(run)) || self.content.rules.iter().any(passes)
    }

    /// Replaces the file by rename, so that a run that is killed meanwhile leaves the old file
    /// intact. Removes the file when no entry is left.
    pub fn save(&self) -> Result<()> {
        if self.content.entries.is_empty() && self.content.rules.is_empty() {
            return remove(&self.path);
        }
        let text = serde_json::to_vec(&self.content).expect("a switch register is plain data");
        let new = next(&self.path);
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path)).map_err(|error| {
            // On a full /run, an incomplete new file is left.
            let _ = fs::remove_file(&new);
            Error::os("write", new.display().to_string(), error)
        })
    }
}

/// The namespace cookies of all switch registers.
pub fn all(_held: &Exclusive) -> Result<Vec<u64>> {
    let root = root()?;
    let entries = fs::read_dir(&root).map_err(|error| Error::os("read", root.display().to_string(), error))?;
    let cookie = |name: &str| name.strip_prefix("sysctl-")?.split('.').next()?.parse().ok();
    Ok(entries.flatten().filter_map(|entry| cookie(entry.file_name().to_str()?)).collect())
}

/// Removes the switch register if its namespace no longer exists. Returns whether that is the case.
pub fn remove_if_dead(cookie: u64, held: &Exclusive) -> Result<bool> {
    let Some(register) = SwitchRegister::find(cookie, held)? else { return Ok(true) };
    let dead = !is_alive(register.content.netns_inode);
    if dead {
        remove(&register.path)?;
    }
    Ok(dead)
}

/// Whether a thread is in the namespace or a mount holds it. A namespace that only an open file
/// holds is not found; no other process can enter it either.
pub fn is_alive(inode: u64) -> bool {
    let root = PathBuf::from(format!("net:[{inode}]"));
    mountinfo::read().is_ok_and(|mounts| mounts.iter().any(|mount| mount.root == root))
        || processes().any(|process| has_thread_in(&process, inode))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).map(|entry| entry.path())
}

fn has_thread_in(process: &Path, inode: u64) -> bool {
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| fs::metadata(thread.path().join("ns/net")).is_ok_and(|data| data.ino() == inode))
}

fn path(cookie: u64) -> Result<PathBuf> {
    Ok(root()?.join(format!("sysctl-{cookie}.json")))
}

fn next(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

fn remove(path: &Path) -> Result<()> {
    for path in [path, &next(path)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::os("remove", path.display().to_string(), error));
            }
            _ => {}
        }
    }
    Ok(())
}
