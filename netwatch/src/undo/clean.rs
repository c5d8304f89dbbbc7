//! Undoes what runs recorded: the last first, each record whatever became of the others.

use std::path::Path;

use super::record::Undo;
use super::{Exclusive, Journal, RunDir, RunId};
use crate::error::{Error, Result};
use crate::host::{cgroup, firewall, forwarding, link, named};
use crate::target::mounts::{marker, private_dir};

/// Who removes the link of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnds {
    /// We do, because orphaned sockets that still wait for an answer may keep the namespace alive for minutes.
    ByUs,
    /// The kernel does, with the namespace: nothing is left in it.
    WithItsNamespace,
}

/// Undoes everything recorded in this run directory and removes the directory. Used at the end of every run, by the guardian when
/// netwatch dies, and by `clean`. When something could not be undone the directory stays, so that the next run tries again.
pub fn undo_run(dir: &Path, held: &Exclusive, link_ends: LinkEnds) -> Result<()> {
    let run = dir
        .file_name()
        .and_then(|name| RunId::parse(name.to_str()?))
        .ok_or_else(|| Error::said("clean up after", dir.display().to_string(), "not a run's directory"))?;
    let mut failure = None;
    // First: nobody is to use what is undone. At a run's own end nobody is left.
    if link_ends == LinkEnds::ByUs
        && let Err(error) = marker::end_processes(&private_dir(dir))
    {
        failure.get_or_insert(error);
    }
    let journal = Journal::read(dir)?;
    if let Err(error) = firewall::remove_all(&journal) {
        failure.get_or_insert(error);
    }
    for undo in journal.iter().rev() {
        if let Err(error) = apply(&run, undo, held) {
            failure.get_or_insert(error);
        }
    }
    // An anonymous namespace takes its link with it, behind our back; deleting it here would take 13 to 20 ms. A named one that
    // somebody joined lives on.
    if (link_ends == LinkEnds::ByUs || journal.iter().any(|undo| matches!(undo, Undo::Name { .. })))
        && let Err(error) = link::delete(&run.interface())
    {
        failure.get_or_insert(error);
    }
    failure.map_or_else(|| remove(dir), Err)
}

/// Undoes what every dead run left. Returns how many there were; the first failure is told after all were tried.
pub fn undo_stale(held: &Exclusive) -> Result<usize> {
    let stale = RunDir::stale(held)?;
    let mut failure = None;
    for run in &stale {
        if let Err(error) = undo_here(run, held) {
            failure.get_or_insert(error);
        }
    }
    if !stale.is_empty()
        && let Err(error) = forwarding::forget_dead_namespaces(held)
    {
        failure.get_or_insert(error);
    }
    failure.map_or(Ok(stale.len()), Err)
}

/// Not for a run of another network namespace that is still there: its rules and switches are to be found there only.
fn undo_here(run: &RunDir, held: &Exclusive) -> Result<()> {
    if let Some(inode) = run.netns_inode()
        && forwarding::lives_elsewhere(inode)?
    {
        return Err(Error::said("clean up after run", run.id().as_str(), "it belongs to another network namespace")
            .hint("run `netwatch clean` there"));
    }
    undo_run(run.path(), held, LinkEnds::ByUs)
}

fn apply(run: &RunId, undo: &Undo, held: &Exclusive) -> Result<()> {
    match undo {
        Undo::Forwarding { netns_cookie } => forwarding::release(run, *netns_cookie, held).map(drop),
        // All of them at once, above: each transaction costs an RCU grace period.
        Undo::ForeignRule { .. } => Ok(()),
        Undo::File { path, inode } => named::undo_file(path, *inode),
        Undo::Directory { path } => named::undo_directory(path),
        Undo::Mount { path } => named::undo_mount(path),
        Undo::Name { path, file, netns } => named::undo_name(path, *file, *netns),
        Undo::Cgroup { path } => cgroup::undo(path),
    }
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::os("remove", dir.display().to_string(), error))
        }
        _ => Ok(()),
    }
}
