//! Registers how each change of the host is undone, by functions of the modules that make the
//! changes, and the other steps of undoing a run.

use super::cgroup::{self, RunCgroup};
use super::conntrack::{self, TrackedConnections};
use super::firewall;
use super::forwarding::{self, ForwardingInUse};
use super::link;
use super::named::{self, NamespaceName, OwnDirectory, OwnFile, SharedMount};
use crate::error::Result;
use crate::undo::{UndoCause, UndoContext, UndoRegistry};

/// The registry of everything that this module undoes.
pub fn undo_steps() -> UndoRegistry {
    let mut steps = UndoRegistry::default();
    steps.register_batch(|_, rules| firewall::undo(rules));
    steps.register(|context, rules| firewall::undo_legacy(&context.run.interface(), rules));
    steps.register(|context, ForwardingInUse { netns_cookie }| {
        forwarding::release(context.run, *netns_cookie, context.held).map(drop)
    });
    steps.register(|_, OwnFile { path, inode }| named::undo_file(path, *inode));
    steps.register(|_, OwnDirectory { path }| named::undo_directory(path));
    steps.register(|_, SharedMount { path }| named::undo_mount(path));
    steps.register(|_, NamespaceName { path, file, netns }| named::undo_name(path, *file, *netns));
    steps.register(|_, run: &RunCgroup| cgroup::undo(run));
    steps.register(forget_connections);
    steps.register_after(delete_link);
    steps.register_elsewhere(forwarding::lives_elsewhere);
    steps.register_after_dead_runs(forwarding::forget_dead_namespaces);
    steps
}

/// Deletes the link first, so that no packet of an orphaned socket creates a new entry.
fn forget_connections(context: &UndoContext<'_>, connections: &TrackedConnections) -> Result<()> {
    delete_link(context)?;
    conntrack::forget(connections)
}

/// An anonymous namespace is removed by the kernel together with its link, in the background;
/// deleting the link here would take 13 to 20 ms. A named namespace continues to exist if another
/// process has joined it, and so does the namespace of a dead run while orphaned sockets wait for a
/// reply.
fn delete_link(context: &UndoContext<'_>) -> Result<()> {
    let is_named = context.journal.iter().any(|line| line.is::<NamespaceName>());
    if context.cause == UndoCause::Died || is_named {
        link::delete(&context.run.interface())?;
    }
    Ok(())
}
