//! The notes that a session of `attach` adds to its report: what was metered, and what was not.

use super::names::NameList;
use crate::error::Error;
use crate::flow::CounterBounds;
use crate::host::link::HostEndCounters;
use crate::host::links::LinkFacts;
use crate::meter::LinkSide;
use crate::report::counted;

/// What no hook of the classifier observes.
pub(super) const UNSEEN: &str = "not counted: packets before netwatch attached, and packets that an XDP program took \
                                 from an interface";

/// Every interface that was metered.
pub(super) fn metered(shown: &NameList) -> String {
    format!("metered: {shown}")
}

/// Every cgroup that was metered.
pub(super) fn metered_sockets(shown: &NameList) -> String {
    format!("metered: the sockets of {shown}")
}

/// What the counts of sockets are.
pub(super) const OF_SOCKETS: &str = "counted where sockets send and receive: bytes are those of IP packets without a \
                                     link header, before fragmentation and after reassembly; on the loopback, each \
                                     packet once";

/// What no socket observes.
pub(super) const UNSEEN_BY_SOCKETS: &str = "not counted: packets before netwatch attached, forwarded packets, packet \
                                            sockets (AF_PACKET), and what the kernel sends or receives without a \
                                            socket of the target (in TIME-WAIT, for closed ports)";

/// What distinguishes the sockets of processes from others of the same cgroup.
pub(super) const OF_PROCESSES: &str = "metered are the sockets that these processes had bound or connected when \
                                       netwatch attached, those that they and their descendants created afterwards, \
                                       and connections that these accepted";

/// Sockets of the selected processes that no list of the kernel contains.
pub(super) fn unlisted_sockets(number: usize) -> Option<String> {
    let (sockets, are) = if number == 1 { ("socket", "is") } else { ("sockets", "are") };
    (number > 0).then(|| {
        format!(
            "{number} {sockets} that these processes had, neither bound nor connected, {are} not metered, whatever they \
             are used for later"
        )
    })
}

/// Sockets that the processes of the targets have, and that belong to other cgroups.
pub(super) fn sockets_elsewhere(number: usize) -> Option<String> {
    let (sockets, were, are) = if number == 1 { ("socket", "was", "is") } else { ("sockets", "were", "are") };
    (number > 0).then(|| {
        format!(
            "{number} {sockets} of its processes {were} created in another cgroup (socket activation, or before the \
             process moved) and {are} not metered"
        )
    })
}

/// A cgroup that ended.
pub(super) fn ended_cgroup(shown: &str) -> String {
    format!("{shown} has ended: the cgroup was removed, or the process no longer runs")
}

/// The end of a pair that `-i` names without `--peer`: it leads to another namespace.
pub(super) fn seen_from_here(link: &LinkFacts, side: LinkSide) -> Option<String> {
    let leads_elsewhere = link.kind == "veth" && link.other.is_some_and(|other| other.namespace.is_some());
    (leads_elsewhere && side == LinkSide::Own).then(|| {
        format!(
            "{name} leads to another network namespace: \"sent\" is what this machine sends into it. With -i {name} \
             --peer, it is what that namespace sends",
            name = link.name
        )
    })
}

/// A capture of loopbacks only.
pub(super) const NOTHING_CAPTURED: &str = "nothing was captured: the packets of a loopback are not";

/// Variables request a capture of cgroups.
pub(super) const VARIABLES_WITHOUT_EFFECT: &str =
    "the packets of cgroups are not captured: NETWATCH_WRITE and NETWATCH_PACKETS have no effect";

/// Why packets of cgroups are not captured.
pub(super) fn no_capture_of_cgroups() -> Error {
    Error::other("capture", "packets of cgroups", "a capture is attached to interfaces, and a cgroup has none")
        .hint("attach to the interface with -i, and select with --only process=NAME")
}

/// Interfaces of the targets that were not metered.
pub(super) fn left_out(shown: &NameList) -> Option<String> {
    (!shown.is_empty()).then(|| format!("not metered: {shown}"))
}

/// Interfaces without a balance.
pub(super) fn not_compared(names: &NameList) -> Option<String> {
    (!names.is_empty()).then(|| {
        format!(
            "no balance: the counters of {names} are gone, or count packets before the kernel merges them (hardware)"
        )
    })
}

/// Packets that passed while counters were read.
pub(super) fn uncertain(bounds: &CounterBounds) -> Option<String> {
    let skbs = bounds.uncertain_skbs();
    (skbs > 0).then(|| {
        format!(
            "the balance may be off by {skbs} skbs, which passed while netwatch attached or detached, or were dropped"
        )
    })
}

/// A namespace that ended.
pub(super) fn ended(name: &str) -> String {
    format!("{name} has ended: its network namespace has no name, or its process no longer runs")
}

/// An interface that appeared while netwatch was attached to others. `counters` are those after it
/// was attached.
pub(super) fn appeared(shown: &str, counters: &HostEndCounters) -> String {
    match counters.rx_packets + counters.tx_packets {
        0 => format!("{shown} appeared, and was attached to before its first packet"),
        packets => {
            format!("{shown} appeared; up to {} passed before netwatch attached to it", counted(packets, "packet"))
        }
    }
}

/// An interface that disappeared with its counters.
pub(super) fn disappeared(shown: &str) -> String {
    format!("{shown} disappeared")
}

/// An interface that netwatch detached from before the end. `is_there`: it still exists.
pub(super) fn no_longer_metered(shown: &str, is_there: bool) -> String {
    match is_there {
        true => format!("{shown} no longer belongs to a target, and is no longer metered"),
        false => disappeared(shown),
    }
}

/// Notes beyond those that are kept.
pub(super) fn further(notes: &NameList) -> Option<String> {
    notes.others().map(|others| format!("{others} further notes about interfaces were discarded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::links::OtherLink;

    #[test]
    fn the_end_of_a_pair_that_leads_elsewhere_has_a_note_about_its_direction() {
        let link = |kind: &str, namespace| LinkFacts {
            index: 7,
            name: "veth7".to_owned(),
            kind: kind.to_owned(),
            hardware: libc::ARPHRD_ETHER,
            mtu: 1500,
            other: Some(OtherLink { index: 8, namespace }),
            is_carried_elsewhere: false,
            counters: HostEndCounters::default(),
        };
        let note = seen_from_here(&link("veth", Some(1)), LinkSide::Own).expect("a note");
        assert!(note.contains("-i veth7 --peer"), "{note}");
        assert_eq!(seen_from_here(&link("veth", Some(1)), LinkSide::Peer), None);
        assert_eq!(seen_from_here(&link("veth", None), LinkSide::Own), None, "both ends are here");
        assert_eq!(seen_from_here(&link("vlan", Some(1)), LinkSide::Own), None);
    }
}
