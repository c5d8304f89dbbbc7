//! Registers how each change of the host is undone, by functions of the modules that make the
//! changes, and the other steps of undoing a run.

use std::net::IpAddr;

use nix::net::if_::if_indextoname;

use super::cgroup::{self, RunCgroup};
use super::conntrack::{self, TrackedConnections};
use super::firewall;
use super::forwarding::{self, ForwardingInUse};
use super::link;
use super::named::{self, NamespaceName, OwnDirectory, OwnFile, SharedMount};
use super::route_check;
use crate::error::Result;
use crate::undo::{RunId, UndoCause, UndoContext, UndoRegistry};

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
    let mut targets = connections.targets.clone();
    // The journal of a run that could not be undone completely is replayed by later runs. Another
    // run may have the address by then.
    if context.cause == UndoCause::Died {
        targets.retain(|target| !is_of_another_run(*target).unwrap_or(true));
    }
    conntrack::forget(&TrackedConnections { targets })
}

/// Whether the host reaches an address by the link of a run. The link of the run that is undone has
/// been deleted.
fn is_of_another_run(target: IpAddr) -> Result<bool> {
    let indexes = route_check::interfaces_to(std::iter::once(target), 0)?;
    let names = indexes.iter().filter_map(|index| if_indextoname(*index).ok());
    Ok(names.into_iter().any(|name| name.to_str().is_ok_and(RunId::is_interface)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{in_fresh_namespace, ip};

    #[test]
    fn an_address_belongs_to_the_run_whose_link_leads_to_it() {
        in_fresh_namespace(|| {
            for (name, address) in [("nw0123abcd", "10.9.8.1/30"), ("lan", "10.9.9.1/30")] {
                ip(&format!("link add {name} type veth peer name {name}p"));
                ip(&format!("addr add {address} dev {name}"));
                [name.to_owned(), format!("{name}p")].iter().for_each(|end| drop(ip(&format!("link set {end} up"))));
            }
            let is_used = |address: &str| is_of_another_run(address.parse().expect("an address")).expect("a lookup");
            assert!(is_used("10.9.8.2"));
            assert!(!is_used("10.9.9.2") && !is_used("10.9.10.2"), "another interface, and no route");
        });
    }
}
