//! The targets: which interfaces carry their packets. Read from the kernel each time, because
//! interfaces come and go.

use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::cgroups::{TargetCgroup, outermost};
use crate::error::{Error, Result};
use crate::host::containers::Container;
use crate::host::existing::ExistingNamespace;
use crate::host::links::{self, LinkChanges, LinkFacts, OtherLink};
use crate::host::netlink::Netlink;
use crate::host::sockets::{self, ExistingSocket};
use crate::host::sysctl::netns_cookie;
use crate::meter::LinkSide;
use crate::settings::AttachTarget;

const NO_ETHERNET: &str = "its packets have no Ethernet header";
const PASS_OTHERS: &str = "its packets pass other interfaces there";

/// The network namespace of an interface: that of netwatch, or the target with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkPlace {
    Own,
    Inside(usize),
}

/// An interface to attach to.
#[derive(Debug)]
pub(super) struct WantedLink {
    pub place: LinkPlace,
    pub facts: LinkFacts,
    pub side: LinkSide,
    /// What it is, for people.
    pub shown: String,
}

/// What has to be attached to now.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub links: Vec<WantedLink>,
    /// Interfaces of the targets that are left out, each with the reason.
    pub left_out: Vec<String>,
    /// Why the interfaces of some targets are unknown.
    pub errors: Vec<Error>,
}

impl Wanted {
    /// If no interface could be read.
    pub(super) fn unknown(error: Error) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }
}

/// The interfaces of a network namespace.
#[derive(Debug)]
struct NamespaceView {
    route: Netlink,
    /// Taken by the thread that follows them.
    changes: Option<LinkChanges>,
}

impl NamespaceView {
    /// Of the calling thread's network namespace.
    fn here() -> Result<Self> {
        Ok(Self { changes: Some(LinkChanges::follow()?), route: Netlink::route()? })
    }
}

#[derive(Debug)]
struct TargetNamespace {
    name: String,
    namespace: ExistingNamespace,
    view: NamespaceView,
    has_ended: bool,
}

impl TargetNamespace {
    fn open(name: &str) -> Result<Self> {
        Self::of(name.to_owned(), ExistingNamespace::open(name)?)
    }

    /// The namespace of a process, which ends with the process. `None` if it is that of netwatch.
    fn of_process(pid: u32, name: String) -> Result<Option<Self>> {
        let namespace = ExistingNamespace::open(&format!("/proc/{pid}/ns/net"));
        let namespace = namespace.map_err(|error| match error.errno() {
            Some(Errno::ENOENT) => Error::other("attach to", name.clone(), "there is no such process"),
            _ => error,
        })?;
        if namespace.is_own()? { Ok(None) } else { Self::of(name, namespace).map(Some) }
    }

    fn of(name: String, namespace: ExistingNamespace) -> Result<Self> {
        if namespace.is_own()? {
            let cause = "it uses the network namespace of netwatch, whose interfaces others use too";
            return Err(Error::other("attach to", name, cause).hint("-i meters an interface"));
        }
        let view = namespace.run_in(NamespaceView::here)??;
        Ok(Self { name, namespace, view, has_ended: false })
    }

    /// `others` are the interfaces of the namespace of netwatch, where the target has this id.
    fn add_wanted(&mut self, number: usize, others: &[LinkFacts], id: Option<i32>, wanted: &mut Wanted) -> Result<()> {
        let all = links::all(&mut self.view.route)?;
        let has_others = all.iter().any(is_way_out);
        for facts in all {
            let inner = format!("{} in {}", facts.name, self.name);
            if let Some(why) = why_left_out(&facts, has_others) {
                wanted.left_out.push(format!("{inner} ({why})"));
                continue;
            }
            wanted.links.push(match other_end(others, &facts, id) {
                Some(peer) => {
                    let shown = format!("{} (the other end of {inner})", peer.name);
                    WantedLink { place: LinkPlace::Own, facts: peer.clone(), side: LinkSide::Peer, shown }
                }
                None => {
                    let side = if facts.is_loopback() { LinkSide::Loopback } else { LinkSide::Own };
                    WantedLink { place: LinkPlace::Inside(number), facts, side, shown: inner }
                }
            });
        }
        Ok(())
    }
}

/// Whether packets of a tap device, such as those of a VPN, may pass this interface as well.
fn is_way_out(facts: &LinkFacts) -> bool {
    let is_inner = facts.is_stacked() || facts.is_tap() || facts.is_loopback() || facts.kind == "dummy";
    facts.is_ethernet() && !is_inner
}

/// Why an interface of a target is not metered. A tap device may be the only way out of a namespace
/// (slirp4netns, pasta); `has_others`: there is another.
fn why_left_out(facts: &LinkFacts, has_others: bool) -> Option<&'static str> {
    if facts.is_stacked() || facts.is_tap() && has_others {
        return Some(PASS_OTHERS);
    }
    (!facts.is_ethernet() && !facts.is_loopback()).then_some(NO_ETHERNET)
}

/// The other end of an interface of a target, if it is among these. `id` is that of the target's
/// namespace there.
fn other_end<'l>(links: &'l [LinkFacts], inner: &LinkFacts, id: Option<i32>) -> Option<&'l LinkFacts> {
    let inside = OtherLink { index: inner.index, namespace: Some(id?) };
    let outside = inner.other?.index;
    links.iter().find(|link| link.index == outside && link.other == Some(inside) && link.kind == inner.kind)
}

/// Adds a namespace, unless it is there under another name.
fn add_namespace(all: &mut Vec<Option<TargetNamespace>>, new: TargetNamespace) -> Result<()> {
    for known in all.iter().flatten() {
        if known.namespace.is_same(&new.namespace)? {
            return Ok(());
        }
    }
    all.push(Some(new));
    Ok(())
}

#[derive(Debug)]
struct TargetInterface {
    name: String,
    side: LinkSide,
    /// Identifies it while it exists, also under another name. `None` if it is gone.
    index: Option<u32>,
}

impl TargetInterface {
    /// The interface among those that exist now. If it is gone, another one with its name takes its
    /// place.
    fn find<'l>(&mut self, links: &'l [LinkFacts]) -> Option<&'l LinkFacts> {
        let same = links.iter().find(|link| Some(link.index) == self.index);
        let found = same.or_else(|| links.iter().find(|link| link.name == self.name));
        self.index = found.map(|link| link.index);
        found
    }
}

/// The targets of a session: they decide what the classifier is loaded for.
#[derive(Debug)]
pub(super) enum OpenedTargets {
    Links(Targets),
    Cgroups(Vec<TargetCgroup>),
}

impl OpenedTargets {
    /// Opens the targets. Fails if one does not exist. A process or container that has no network
    /// namespace of its own is found by its cgroup.
    pub(super) fn open(targets: &[AttachTarget], only_processes: bool) -> Result<Self> {
        let (mut namespaces, mut interfaces, mut cgroups) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            match target {
                AttachTarget::Namespace(name) => add_namespace(&mut namespaces, TargetNamespace::open(name)?)?,
                AttachTarget::Process(pid) if only_processes => cgroups.push(TargetCgroup::of_process(*pid, true)?),
                AttachTarget::Process(pid) => match TargetNamespace::of_process(*pid, format!("process {pid}"))? {
                    Some(target) => add_namespace(&mut namespaces, target)?,
                    None => cgroups.push(TargetCgroup::of_process(*pid, false)?),
                },
                AttachTarget::Container(name) => {
                    let Container { pid, .. } = Container::find(name)?;
                    match TargetNamespace::of_process(pid, format!("container {name}"))? {
                        Some(target) => add_namespace(&mut namespaces, target)?,
                        None => cgroups.push(TargetCgroup::of_container(pid, name)?),
                    }
                }
                AttachTarget::Interface { name, is_peer } => {
                    let side = if *is_peer { LinkSide::Peer } else { LinkSide::Own };
                    interfaces.push(TargetInterface { name: name.clone(), side, index: None });
                }
                AttachTarget::Cgroup(path) => cgroups.push(TargetCgroup::open(path)?),
                AttachTarget::Unit(name) => cgroups.push(TargetCgroup::of_unit(name)?),
            }
        }
        match (cgroups.is_empty(), namespaces.is_empty() && interfaces.is_empty()) {
            (true, _) => Targets::new(namespaces, interfaces).map(Self::Links),
            (false, true) => Ok(Self::Cgroups(outermost(cgroups))),
            (false, false) => {
                let cause = "a session meters either interfaces or cgroups: a packet would count at both";
                Err(Error::other("attach to", "these targets", cause).hint("start netwatch once for each kind"))
            }
        }
    }
}

/// What is metered on interfaces.
#[derive(Debug)]
pub(super) struct Targets {
    own: NamespaceView,
    /// `None` if it has ended.
    namespaces: Vec<Option<TargetNamespace>>,
    interfaces: Vec<TargetInterface>,
}

impl Targets {
    /// Fails if a target does not exist.
    fn new(namespaces: Vec<Option<TargetNamespace>>, mut interfaces: Vec<TargetInterface>) -> Result<Self> {
        let mut own = NamespaceView::here()?;
        let present = links::all(&mut own.route)?;
        for interface in &mut interfaces {
            let refused = match interface.find(&present) {
                None => Some("there is no such interface"),
                Some(link) if !link.is_ethernet() && !link.is_loopback() => Some(NO_ETHERNET),
                Some(_) => None,
            };
            if let Some(cause) = refused {
                return Err(Error::other("attach to interface", interface.name.clone(), cause));
            }
        }
        Ok(Self { own, namespaces, interfaces })
    }

    /// Takes what notifies of changes.
    pub(super) fn take_changes(&mut self) -> Vec<LinkChanges> {
        let inside = self.namespaces.iter_mut().flatten().map(|target| &mut target.view);
        inside.chain([&mut self.own]).filter_map(|view| view.changes.take()).collect()
    }

    /// The interfaces that carry packets of the targets now.
    pub(super) fn wanted(&mut self) -> Result<Wanted> {
        let mut wanted = Wanted::default();
        let own = links::all(&mut self.own.route)?;
        for (number, target) in self.namespaces.iter_mut().enumerate() {
            let Some(target) = target.as_mut().filter(|target| !target.has_ended) else { continue };
            let id = links::namespace_id(&mut self.own.route, target.namespace.as_fd());
            // Other targets are metered all the same.
            if let Err(error) = id.and_then(|id| target.add_wanted(number, &own, id, &mut wanted)) {
                wanted.errors.push(error);
            }
        }
        // Last: the end of a link of a namespace keeps the direction of the namespace.
        for interface in &mut self.interfaces {
            if let Some(facts) = interface.find(&own) {
                let side = if facts.is_loopback() { LinkSide::Loopback } else { interface.side };
                let (facts, shown) = (facts.clone(), interface.name.clone());
                let link = WantedLink { place: LinkPlace::Own, facts, side, shown };
                wanted.links.push(link);
            }
        }
        Ok(wanted)
    }

    /// Whether a namespace has ended that [`Targets::find_ended`] did not return yet.
    pub(super) fn has_one_ended(&self) -> bool {
        self.namespaces.iter().flatten().any(|target| !target.has_ended && target.namespace.has_ended())
    }

    /// Finds namespaces that have ended since the last call. Returns their names. They exist until
    /// [`Targets::release_ended`].
    pub(super) fn find_ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for target in self.namespaces.iter_mut().flatten().filter(|target| !target.has_ended) {
            if target.namespace.has_ended() {
                target.has_ended = true;
                ended.push(target.name.clone());
            }
        }
        ended
    }

    /// Closes namespaces that have ended, so that the kernel can remove them.
    pub(super) fn release_ended(&mut self) {
        for target in &mut self.namespaces {
            target.take_if(|target| target.has_ended);
        }
    }

    /// Closes all namespaces.
    pub(super) fn release_all(&mut self) {
        self.namespaces.iter_mut().for_each(|target| *target = None);
    }

    /// Whether nothing is left to meter.
    pub(super) fn have_ended(&self) -> bool {
        self.interfaces.is_empty() && self.namespaces.iter().all(Option::is_none)
    }

    /// Reads an interface again; `None` if it is gone.
    pub(super) fn read(&mut self, place: LinkPlace, index: u32) -> Result<Option<LinkFacts>> {
        let view = match place {
            LinkPlace::Own => Some(&mut self.own),
            LinkPlace::Inside(number) => self.namespaces[number].as_mut().map(|target| &mut target.view),
        };
        view.map_or(Ok(None), |view| links::find(&mut view.route, index))
    }

    /// Runs `work` in the network namespace of an interface. `None` if the namespace has ended.
    pub(super) fn run_in<T: Send>(&self, place: LinkPlace, work: impl FnOnce() -> T + Send) -> Result<Option<T>> {
        match place {
            LinkPlace::Own => Ok(Some(work())),
            LinkPlace::Inside(number) => {
                self.namespaces[number].as_ref().map(|target| target.namespace.run_in(work)).transpose()
            }
        }
    }

    /// The cookies of the network namespaces that are metered.
    pub(super) fn cookies(&self) -> Result<Vec<u64>> {
        let inside = self.namespaces.iter().flatten().map(|target| target.namespace.run_in(netns_cookie).flatten());
        let own = (!self.interfaces.is_empty()).then(netns_cookie);
        inside.chain(own).collect()
    }

    /// The sockets in the namespaces that are metered, each with the cookie of its namespace.
    pub(super) fn sockets(&self) -> Result<Vec<(ExistingSocket, u64)>> {
        let read = || -> Result<Vec<(ExistingSocket, u64)>> {
            let cookie = netns_cookie()?;
            Ok(sockets::all(&mut Netlink::sock_diag()?)?.into_iter().map(|socket| (socket, cookie)).collect())
        };
        let inside = self.namespaces.iter().flatten().map(|target| target.namespace.run_in(read).flatten());
        let own = (!self.interfaces.is_empty()).then(read);
        let all: Vec<Vec<_>> = inside.chain(own).collect::<Result<_>>()?;
        Ok(all.concat())
    }

    /// The addresses of the namespaces; without any, those of this machine, if `-i` names an
    /// interface of its own. Beside namespaces, these are remotes.
    pub(super) fn addresses(&mut self) -> Vec<IpAddr> {
        let is_own = self.namespaces.is_empty() && self.interfaces.iter().any(|own| own.side == LinkSide::Own);
        let inside = self.namespaces.iter_mut().flatten().map(|target| &mut target.view);
        let views = inside.chain(is_own.then_some(&mut self.own));
        // Without addresses, the report only lacks the list of them.
        views.flat_map(|view| links::addresses(&mut view.route).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::link::HostEndCounters;

    fn link(index: u32, other: Option<(u32, Option<i32>)>) -> LinkFacts {
        LinkFacts {
            index,
            name: format!("veth{index}"),
            kind: "veth".to_owned(),
            hardware: libc::ARPHRD_ETHER,
            mtu: 1500,
            other: other.map(|(index, namespace)| OtherLink { index, namespace }),
            is_carried_elsewhere: other.is_some_and(|(_, namespace)| namespace.is_some()),
            counters: HostEndCounters::default(),
        }
    }

    #[test]
    fn tunnels_and_tap_devices_are_left_out_if_their_packets_pass_another_interface() {
        let of_kind = |kind: &str| LinkFacts { kind: kind.to_owned(), ..link(2, None) };
        for kind in ["vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan"] {
            assert_eq!(why_left_out(&of_kind(kind), true), Some(PASS_OTHERS), "{kind}");
            let moved = LinkFacts { is_carried_elsewhere: true, ..of_kind(kind) };
            assert_eq!(why_left_out(&moved, true), None, "{kind} through another namespace");
        }
        let (tap, dummy, veth) = (of_kind("tun"), of_kind("dummy"), link(3, Some((7, Some(0)))));
        assert_eq!(why_left_out(&tap, true), Some(PASS_OTHERS));
        assert_eq!(why_left_out(&tap, false), None, "the only way out");
        assert_eq!([&tap, &dummy, &veth, &of_kind("vxlan")].map(is_way_out), [false, false, true, false]);
        let tun = LinkFacts { hardware: libc::ARPHRD_NONE, ..tap };
        assert_eq!(why_left_out(&tun, false), Some(NO_ETHERNET));
    }

    #[test]
    fn an_interface_is_followed_under_another_name_while_it_exists() {
        let mut interface = TargetInterface { name: "veth7".to_owned(), side: LinkSide::Peer, index: None };
        let renamed = |index: u32, name: &str| LinkFacts { name: name.to_owned(), ..link(index, None) };
        let mut found = |links: &[LinkFacts]| interface.find(links).map(|link| link.index);
        assert_eq!(found(&[link(6, None), link(7, None)]), Some(7));
        assert_eq!(found(&[link(6, None), renamed(7, "zz")]), Some(7));
        assert_eq!(found(&[renamed(6, "veth7"), renamed(7, "veth6")]), Some(7), "names were exchanged");
        assert_eq!(found(&[renamed(6, "veth7")]), Some(6), "it is gone, and another one has its name");
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[renamed(9, "zz")]), None);
        assert_eq!(found(&[renamed(8, "veth7")]), Some(8));
    }

    #[test]
    fn the_other_end_refers_back_by_index_and_namespace() {
        let inner = link(2, Some((7, Some(0))));
        let outside = [link(6, Some((2, Some(4)))), link(7, Some((2, Some(3))))];
        assert_eq!(other_end(&outside, &inner, Some(3)).map(|link| link.index), Some(7));
        assert_eq!(other_end(&outside, &inner, Some(4)), None, "another namespace");
        assert_eq!(other_end(&outside, &inner, None), None, "no interface refers to the target");
        let macvlan = LinkFacts { kind: "macvlan".to_owned(), ..inner };
        assert_eq!(other_end(&outside, &macvlan, Some(3)), None, "stacked on an interface outside");
    }
}
