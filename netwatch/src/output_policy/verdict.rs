//! Derives the verdict from the outcomes of the probes. Pure.

use std::collections::BTreeSet;

use super::probe::{ProbeOutcome, ProbeTransport, Sent};
use crate::host::firewall::OutputChain;
use crate::host::forwarding::Families;

/// What follows from the probes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProbeVerdict {
    pub closed: Families,
    pub notes: Vec<String>,
}

/// `chains` are those that process what the host sends; `user` is the sender of the probes.
pub(super) fn of(sent: &[Sent], chains: &[OutputChain], user: &str) -> ProbeVerdict {
    let [ipv4, ipv6] = [true, false].map(|is_ipv4| is_closed(sent, is_ipv4));
    let mut notes = Vec::new();
    for (is_closed, family) in [(ipv4, "IPv4"), (ipv6, "IPv6")] {
        if is_closed {
            notes.push(format!("the host lets {user} send no {family} packets, so the command has no {family}"));
        }
    }
    let open: Vec<&Sent> = sent.iter().filter(|probe| if probe.to.is_ipv4() { !ipv4 } else { !ipv6 }).collect();
    let stopped: BTreeSet<String> = open.iter().filter(|probe| is_stopped(probe, sent)).map(shown).collect();
    let redirected: BTreeSet<String> =
        open.iter().filter(|probe| probe.outcome == ProbeOutcome::Redirected).map(shown).collect();
    if !stopped.is_empty() {
        notes.push(format!(
            "the host does not let {user} send to {}; the command's packets are forwarded, so this does not hold for \
             them",
            list(stopped)
        ));
    }
    if !redirected.is_empty() {
        notes.push(format!(
            "the host redirects what {user} sends to {} to a program of its own; the command's packets do not pass it",
            list(redirected)
        ));
    }
    let uncertain: Vec<String> = chains.iter().filter(|chain| chain.may_drop).map(|chain| chain.name.clone()).collect();
    let is_pending = open.iter().any(|probe| probe.is_pending());
    if is_pending || (notes.is_empty() && !uncertain.is_empty()) {
        let cause = if is_pending {
            "probes did not arrive at an interface in time".to_owned()
        } else {
            format!("{} may drop packets that no probe covers", uncertain.join(", "))
        };
        notes.push(format!("output policy not fully verified: {cause}"));
    }
    ProbeVerdict { closed: Families { ipv4, ipv6 }, notes }
}

/// Whether the host lets nothing out: every datagram was stopped or redirected, and no connect
/// left.
fn is_closed(sent: &[Sent], is_ipv4: bool) -> bool {
    let mut probes = sent.iter().filter(|probe| probe.to.is_ipv4() == is_ipv4).peekable();
    probes.peek().is_some()
        && probes.all(|probe| match probe.transport {
            ProbeTransport::Udp => matches!(probe.outcome, ProbeOutcome::Refused | ProbeOutcome::Redirected),
            ProbeTransport::Tcp => probe.outcome != ProbeOutcome::Left,
        })
}

/// A connect whose SYN a firewall drops does not fail. But if a datagram to the same address left,
/// the neighbor is resolved, so a missing SYN was dropped.
fn is_stopped(probe: &Sent, all: &[Sent]) -> bool {
    let same_address_left =
        || all.iter().any(|other| other.to.ip() == probe.to.ip() && other.outcome == ProbeOutcome::Left);
    match probe.outcome {
        ProbeOutcome::Refused => true,
        ProbeOutcome::Unseen => probe.transport == ProbeTransport::Tcp && same_address_left(),
        ProbeOutcome::Left | ProbeOutcome::Redirected => false,
    }
}

fn shown(probe: &&Sent) -> String {
    format!("{} port {} of {}", probe.transport, probe.to.port(), probe.to.ip())
}

fn list(items: BTreeSet<String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "203.0.113.77:443";

    fn sent(to: &str, transport: ProbeTransport, outcome: ProbeOutcome) -> Sent {
        Sent { to: to.parse().unwrap(), transport, outcome }
    }

    fn chain(may_drop: bool) -> [OutputChain; 1] {
        [OutputChain { name: "inet filter output".into(), may_drop }]
    }

    fn notes(sent: &[Sent], may_drop: bool) -> String {
        of(sent, &chain(may_drop), "ada").notes.join("; ")
    }

    #[test]
    fn probes_that_left_verify_a_chain_that_drops_nothing() {
        let all =
            [ProbeTransport::Tcp, ProbeTransport::Udp].map(|transport| sent(PUBLIC, transport, ProbeOutcome::Left));
        assert_eq!(notes(&all, false), "");
        assert!(notes(&all, true).starts_with("output policy not fully verified: inet filter output may drop"));
    }

    #[test]
    fn a_family_is_closed_if_nothing_left_and_no_datagram_may_be_late() {
        let [tcp, udp] = [ProbeTransport::Tcp, ProbeTransport::Udp];
        let closed = |probes: &[Sent]| of(probes, &chain(true), "ada").closed;
        let dropped = [sent(PUBLIC, tcp, ProbeOutcome::Unseen), sent(PUBLIC, udp, ProbeOutcome::Refused)];
        assert_eq!(closed(&dropped), Families { ipv4: true, ipv6: false });
        let redirected = [sent(PUBLIC, tcp, ProbeOutcome::Redirected), sent(PUBLIC, udp, ProbeOutcome::Redirected)];
        assert_eq!(closed(&redirected), Families { ipv4: true, ipv6: false });
        let late = [sent(PUBLIC, tcp, ProbeOutcome::Unseen), sent(PUBLIC, udp, ProbeOutcome::Unseen)];
        assert_eq!(closed(&late), Families { ipv4: false, ipv6: false });
        assert!(notes(&late, false).contains("did not arrive"));
        let one_left = [dropped[0], dropped[1], sent("203.0.113.77:53", udp, ProbeOutcome::Left)];
        assert_eq!(closed(&one_left), Families { ipv4: false, ipv6: false });
        assert!(notes(&one_left, true).contains("send to tcp port 443 of 203.0.113.77, udp port 443"));
        let six = [sent("[2001:db8::7]:53", udp, ProbeOutcome::Refused), sent(PUBLIC, udp, ProbeOutcome::Left)];
        assert_eq!(closed(&six), Families { ipv4: false, ipv6: true });
        assert_eq!(notes(&six, true), "the host lets ada send no IPv6 packets, so the command has no IPv6");
    }

    #[test]
    fn a_redirected_port_is_noted() {
        let probes = [
            sent(PUBLIC, ProbeTransport::Tcp, ProbeOutcome::Redirected),
            sent(PUBLIC, ProbeTransport::Udp, ProbeOutcome::Left),
        ];
        assert!(notes(&probes, false).contains("redirects what ada sends to tcp port 443 of 203.0.113.77"));
    }
}
