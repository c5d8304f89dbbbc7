//! The interfaces that the classifier is attached to, and what they counted meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::captures::{LinkCaptures, LinkToTap};
use super::follow::{ExistingSockets, Followed, TargetSummary};
use super::names::NameList;
use super::notes;
use super::targets::{LinkPlace, Targets, Wanted, WantedLink};
use crate::commands::run::capture::StartedCapture;
use crate::commands::run::live::from_link;
use crate::error::{Error, Result};
use crate::flow::{CounterBounds, InterfaceCounters, LinkCounters};
use crate::guardian::StartCapture;
use crate::host::link::HostEndCounters;
use crate::host::links::LinkChanges;
use crate::meter::{AttachedLink, LinkAttacher, LinkSide};
use crate::report::Interface;

/// Identifies an interface.
pub(super) type LinkKey = (LinkPlace, u32);

/// An interface that is metered.
struct MeteredLink {
    name: String,
    shown: String,
    side: LinkSide,
    mtu: u32,
    /// Its counters count what the classifier does.
    is_compared: bool,
    /// Its counters before the classifier was attached, and after that.
    before: HostEndCounters,
    after: HostEndCounters,
    link: AttachedLink,
}

/// The targets and the interfaces that the classifier is attached to.
pub(super) struct AttachedLinks {
    targets: Targets,
    attacher: LinkAttacher,
    attached: BTreeMap<LinkKey, MeteredLink>,
    captures: LinkCaptures,
    /// Interfaces that appear from now on are late.
    is_first: bool,
    /// What detached interfaces counted; `None` if that is unknown.
    counted: Option<CounterBounds>,
    /// Everything that was metered, for people.
    metered: NameList,
    left_out: NameList,
    /// Interfaces whose counters are not compared.
    uncompared: NameList,
    notes: NameList,
    interface: Interface,
}

impl AttachedLinks {
    /// Nothing is attached yet.
    pub(super) fn new(targets: Targets, attacher: LinkAttacher) -> Self {
        Self {
            targets,
            attacher,
            attached: BTreeMap::new(),
            captures: LinkCaptures::default(),
            is_first: true,
            counted: Some(CounterBounds::default()),
            metered: NameList::default(),
            left_out: NameList::default(),
            uncompared: NameList::default(),
            notes: NameList::default(),
            interface: Interface::default(),
        }
    }

    /// Attaches to an interface. A capture that fails does not prevent that it is metered. Returns
    /// the errors.
    fn attach(&mut self, wanted: WantedLink) -> Vec<Error> {
        let key = key_of(&wanted);
        let attached = self.attach_programs(wanted);
        if !matches!(attached, Ok(Some(_))) {
            self.captures.detach(key);
        }
        attached.map_or_else(|error| vec![error], Option::unwrap_or_default)
    }

    /// Returns the errors of captures; `None` if the interface disappears at this moment.
    fn attach_programs(&mut self, wanted: WantedLink) -> Result<Option<Vec<Error>>> {
        let (place, index) = key_of(&wanted);
        let WantedLink { facts, side, shown, .. } = wanted;
        let (attacher, captures) = (&self.attacher, &mut self.captures);
        let tap = LinkToTap { key: (place, index), name: &facts.name, shown: &shown, side };
        // The captures first: they have every packet that is counted.
        let attached = self.targets.run_in(place, || (captures.attach(&tap), attacher.attach(index, side)));
        let Some((failed, attached)) = attached? else { return Ok(None) };
        let link = match attached {
            Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(None),
            attached => attached?,
        };
        let Some(now) = self.targets.read(place, index)? else { return Ok(None) };
        if !self.is_first {
            self.notes.insert(notes::appeared(&shown, &now.counters));
        }
        self.metered.insert(shown.clone());
        self.notes.extend(notes::seen_from_here(&facts, side).filter(|_| place == LinkPlace::Own));
        // Hardware counts packets before the kernel merges them.
        let is_compared = !facts.kind.is_empty();
        if !is_compared && side != LinkSide::Loopback {
            self.uncompared.insert(facts.name.clone());
            self.counted = None;
        }
        let (name, mtu, before, after) = (facts.name, facts.mtu, facts.counters, now.counters);
        let metered = MeteredLink { name, shown, side, mtu, is_compared, before, after, link };
        self.attached.insert((place, index), metered);
        Ok(Some(failed))
    }

    /// Detaches from an interface, which may be gone. An error is that of its counters, which are
    /// unknown then.
    fn detach(&mut self, (place, index): LinkKey) -> Result<()> {
        let first = self.targets.read(place, index);
        let Some(MeteredLink { name, shown, side, is_compared, before, after, link, .. }) =
            self.attached.remove(&(place, index))
        else {
            return Ok(());
        };
        drop(link);
        self.captures.detach((place, index));
        if side == LinkSide::Loopback || !is_compared {
            return Ok(());
        }
        let read = first.and_then(|first| Ok((first, self.targets.read(place, index)?)));
        if let Ok((Some(first), Some(last))) = &read {
            let bounds = bounds(side, [before, after], [first.counters, last.counters]);
            self.counted.iter_mut().for_each(|counted| counted.add(&bounds));
            return Ok(());
        }
        self.uncompared.insert(name);
        self.counted = None;
        read.map(|_| _ = self.notes.insert(notes::disappeared(&shown)))
    }

    /// Updates the facts about the interface. What is gone stays in them if nothing follows.
    fn describe(&mut self) {
        let is_link = |link: &&MeteredLink| link.side != LinkSide::Loopback;
        let mut links: Vec<&MeteredLink> = self.attached.values().filter(is_link).collect();
        if links.is_empty() {
            links = self.attached.values().collect();
        }
        if !links.is_empty() {
            let name = links.iter().map(|link| link.name.clone()).collect::<NameList>().to_string();
            let mtu = links.iter().map(|link| link.mtu).max().unwrap_or_default();
            self.interface = Interface { name, mtu, local: self.targets.addresses(), ..Interface::default() };
        }
    }
}

impl Followed for AttachedLinks {
    fn take_changes(&mut self) -> Vec<LinkChanges> {
        self.targets.take_changes()
    }

    fn update(&mut self) -> Vec<Error> {
        let ended = self.targets.find_ended();
        self.notes.extend(ended.iter().map(|name| notes::ended(name)));
        let Wanted { links, left_out, mut errors } = self.targets.wanted().unwrap_or_else(Wanted::unknown);
        self.left_out.extend(left_out);
        let keys: BTreeSet<LinkKey> = links.iter().map(key_of).collect();
        // What is wanted may be missing in `links` after an error.
        let is_complete = errors.is_empty();
        let absent: Vec<LinkKey> = self.attached.keys().filter(|key| !keys.contains(key)).copied().collect();
        for (place, index) in absent {
            let is_there = !matches!(self.targets.read(place, index), Ok(None));
            if is_complete || !is_there {
                // The end of a namespace has a note of its own.
                let shown = self.attached.get(&(place, index)).filter(|_| ended.is_empty());
                let note = shown.map(|link| notes::no_longer_metered(&link.shown, is_there));
                errors.extend(self.detach((place, index)).err());
                self.notes.extend(note);
            }
        }
        self.targets.release_ended();
        for link in links {
            if !self.attached.contains_key(&key_of(&link)) {
                errors.extend(self.attach(link));
            }
        }
        self.is_first = false;
        self.describe();
        errors
    }

    fn has_one_ended(&self) -> bool {
        self.targets.has_one_ended()
    }

    fn have_ended(&self) -> bool {
        self.targets.have_ended()
    }

    fn detach_all(&mut self) -> Result<()> {
        self.describe();
        let keys: Vec<LinkKey> = self.attached.keys().copied().collect();
        let detached: Vec<Result<()>> = keys.into_iter().map(|key| self.detach(key)).collect();
        self.targets.release_all();
        detached.into_iter().collect()
    }

    fn shown(&self) -> NameList {
        self.attached.values().map(|link| link.shown.clone()).collect()
    }

    fn interface(&self) -> Interface {
        self.interface.clone()
    }

    fn counters_so_far(&mut self) -> Option<InterfaceCounters> {
        let mut sum = self.counted?;
        for ((place, index), link) in &self.attached {
            if link.side == LinkSide::Loopback {
                continue;
            }
            let now = self.targets.read(*place, *index).ok()??.counters;
            sum.add(&bounds(link.side, [link.before, link.after], [now, now]));
        }
        Some(sum.least)
    }

    fn sockets(&mut self) -> Result<ExistingSockets> {
        Ok(ExistingSockets { metered: self.targets.sockets()?, ..ExistingSockets::default() })
    }

    fn start_capture(&mut self, capture: StartCapture, expression: Option<String>) -> Result<StartedCapture> {
        let slot = capture.slot;
        self.captures.add(capture, expression)?;
        for (&key, MeteredLink { name, shown, side, .. }) in &self.attached {
            let (captures, link) = (&mut self.captures, LinkToTap { key, name, shown, side: *side });
            let attached = self.targets.run_in(key.0, || captures.attach_one(slot, &link));
            match attached.and_then(Option::transpose) {
                // It disappears at this moment.
                Err(error) if error.errno() == Some(Errno::ENODEV) => {}
                Err(error) => {
                    self.captures.remove(slot);
                    return Err(error);
                }
                Ok(_) => {}
            }
        }
        self.captures.started(slot)
    }

    fn stop_capture(&mut self, slot: u16) {
        self.captures.remove(slot);
    }

    fn summary(&mut self) -> TargetSummary {
        [&mut self.metered, &mut self.left_out, &mut self.uncompared].into_iter().for_each(NameList::sort);
        let mut notes = vec![notes::metered(&self.metered), notes::UNSEEN.to_owned()];
        notes.extend(notes::left_out(&self.left_out));
        notes.extend(notes::not_compared(&self.uncompared));
        notes.extend(self.counted.as_ref().and_then(notes::uncertain));
        notes.extend(self.notes.listed().iter().cloned());
        notes.extend(notes::further(&self.notes));
        TargetSummary { counters: self.counted, notes, interface: self.interface() }
    }
}

fn key_of(link: &WantedLink) -> LinkKey {
    (link.place, link.facts.index)
}

/// What an interface counted while the classifier was attached, in the view of the target's peer.
/// `start` are its counters before and after it was attached, `end` before and after it was
/// detached.
fn bounds(side: LinkSide, start: [HostEndCounters; 2], end: [HostEndCounters; 2]) -> CounterBounds {
    let [start, end] = [start, end].map(|both| both.map(from_link));
    let (least, most) = (since(end[0], start[1]), since(end[1], start[0]));
    match side {
        LinkSide::Peer | LinkSide::Loopback => CounterBounds { least, most },
        LinkSide::Own => mirrored(least, most),
    }
}

/// The interface of the target itself: it sends what the target sends. What it discarded instead of
/// sending was counted, and the kernel does not count its bytes.
fn mirrored(least: InterfaceCounters, most: InterfaceCounters) -> CounterBounds {
    /// Largest length of a packet that is passed to an interface: a header, and the largest
    /// super-frame (GSO_MAX_SIZE in include/linux/netdevice.h).
    const MAX_BYTES: u64 = 8 * 65_536 + 14;
    let swap = |counters: InterfaceCounters| InterfaceCounters {
        rx: LinkCounters { dropped: 0, ..counters.tx },
        tx: LinkCounters { dropped: 0, ..counters.rx },
    };
    let dropped = most.tx.dropped;
    let mut bounds = CounterBounds { least: swap(least), most: swap(most) };
    bounds.most.rx.packets += dropped;
    bounds.most.rx.bytes += dropped.saturating_mul(MAX_BYTES);
    bounds
}

fn since(now: InterfaceCounters, before: InterfaceCounters) -> InterfaceCounters {
    let since = |now: LinkCounters, before: LinkCounters| LinkCounters {
        packets: now.packets.saturating_sub(before.packets),
        bytes: now.bytes.saturating_sub(before.bytes),
        dropped: now.dropped.saturating_sub(before.dropped),
    };
    InterfaceCounters { rx: since(now.rx, before.rx), tx: since(now.tx, before.tx) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(rx_packets: u64, tx_packets: u64, tx_dropped: u64) -> HostEndCounters {
        let (rx_bytes, tx_bytes) = (100 * rx_packets, 100 * tx_packets);
        HostEndCounters { rx_packets, rx_bytes, rx_dropped: 0, tx_packets, tx_bytes, tx_dropped }
    }

    #[test]
    fn what_passed_while_counters_were_read_is_uncertain() {
        let start = [counters(10, 20, 0), counters(11, 20, 0)];
        let end = [counters(15, 30, 0), counters(15, 32, 0)];
        let peer = bounds(LinkSide::Peer, start, end);
        let packets = |counters: InterfaceCounters| (counters.rx.packets, counters.tx.packets);
        assert_eq!((packets(peer.least), packets(peer.most)), ((4, 10), (5, 12)));
        assert_eq!(peer.uncertain_skbs(), 3);
        let own = bounds(LinkSide::Own, start, end);
        assert_eq!((packets(own.least), packets(own.most)), ((10, 4), (12, 5)));
    }

    #[test]
    fn what_an_own_interface_discarded_may_have_been_counted() {
        let start = [counters(0, 0, 1); 2];
        let end = [counters(0, 3, 3); 2];
        let own = bounds(LinkSide::Own, start, end);
        assert_eq!((own.least.rx.packets, own.most.rx.packets), (3, 5));
        let peer = bounds(LinkSide::Peer, start, end);
        assert_eq!((peer.least.tx.packets, peer.least.tx.dropped), (3, 2));
    }
}
