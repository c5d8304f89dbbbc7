//! Derives the verdict from the outcomes of the probes. Pure.

use std::collections::BTreeSet;

use super::probe::{ProbeOutcome, ProbeTarget, ProbeTransport, Sent};
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
    let open: Vec<&Sent> = sent.iter().filter(|probe| if probe.target.to.is_ipv4() { !ipv4 } else { !ipv6 }).collect();
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

/// Whether the host lets nothing out, except to its resolvers: every datagram was stopped or
/// redirected, and no connect left.
fn is_closed(sent: &[Sent], is_ipv4: bool) -> bool {
    let is_judged = |probe: &&Sent| probe.target.to.is_ipv4() == is_ipv4 && !probe.target.is_resolver;
    let mut probes = sent.iter().filter(is_judged).peekable();
    probes.peek().is_some()
        && probes.all(|probe| match probe.target.transport {
            ProbeTransport::Udp => matches!(probe.outcome, ProbeOutcome::Refused | ProbeOutcome::Redirected),
            ProbeTransport::Tcp => probe.outcome != ProbeOutcome::Left,
        })
}

/// A connect whose SYN a firewall drops does not fail. But if a datagram to the same address left,
/// the neighbor is resolved, so a missing SYN was dropped.
fn is_stopped(probe: &Sent, all: &[Sent]) -> bool {
    let same_address_left =
        || all.iter().any(|other| other.target.to.ip() == probe.target.to.ip() && other.outcome == ProbeOutcome::Left);
    match probe.outcome {
        ProbeOutcome::Refused => true,
        ProbeOutcome::Unseen => probe.target.transport == ProbeTransport::Tcp && same_address_left(),
        ProbeOutcome::Left | ProbeOutcome::Redirected => false,
    }
}

fn shown(probe: &&Sent) -> String {
    let ProbeTarget { to, transport, .. } = probe.target;
    format!("{transport} port {} of {}", to.port(), to.ip())
}

fn list(items: BTreeSet<String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "203.0.113.77:443";

    fn sent(to: &str, transport: ProbeTransport, outcome: ProbeOutcome) -> Sent {
        Sent { target: ProbeTarget { to: to.parse().unwrap(), transport, is_resolver: false }, outcome }
    }

    fn to_resolver(to: &str, outcome: ProbeOutcome) -> Sent {
        let mut probe = sent(to, ProbeTransport::Udp, outcome);
        probe.target.is_resolver = true;
        probe
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
    fn a_resolver_that_is_permitted_opens_no_family() {
        let [tcp, udp] = [ProbeTransport::Tcp, ProbeTransport::Udp];
        let resolver = to_resolver("203.0.113.53:53", ProbeOutcome::Left);
        let dropped = [sent(PUBLIC, tcp, ProbeOutcome::Unseen), sent(PUBLIC, udp, ProbeOutcome::Refused), resolver];
        assert!(of(&dropped, &chain(true), "ada").closed.ipv4);
        let open = [sent(PUBLIC, tcp, ProbeOutcome::Left), to_resolver("203.0.113.53:53", ProbeOutcome::Refused)];
        assert!(!of(&open, &chain(true), "ada").closed.ipv4);
        assert!(notes(&open, true).contains("does not let ada send to udp port 53 of 203.0.113.53"));
        assert!(!of(&[resolver], &[], "ada").closed.ipv4, "no probe of another kind");
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
