//! What to do about a failed attempt.

use crate::flow::IcmpError;
use crate::process::{Attempt, AttemptCause, AttemptTarget};
use crate::report::Report;

/// Error numbers of Linux (errno-base.h, errno.h).
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

/// Sentences for the user.
pub(super) fn remedy(report: &Report, attempt: &Attempt) -> String {
    let port = port(attempt);
    match &attempt.cause {
        AttemptCause::Timeout => format!(
            "No packet came back. Allow {port} in the firewalls on the way, or check that the host is up and its address is right."
        ),
        AttemptCause::Refused => format!(
            "The host answered that {port} is closed. Start the service there, correct the port, or check a firewall that rejects."
        ),
        AttemptCause::Reset => {
            "The connection was accepted and then reset. Check the log of the service, and the proxies and load balancers before it."
                .to_owned()
        }
        AttemptCause::Icmp(error) => icmp(is_v6(attempt), *error, &port),
        AttemptCause::Errno(ENETUNREACH | EHOSTUNREACH) => no_route(report, attempt),
        AttemptCause::Errno(_) => match attempt.cause.name() {
            "no_address_family" => {
                "This machine has no such address family (IPv6 is often disabled). Programs usually fall back to the other one.".to_owned()
            }
            "denied" => {
                "The system denied the call. Check security policies (SELinux, AppArmor, seccomp) and local firewall rules.".to_owned()
            }
            _ => "The call failed before a packet was sent. Its error number is in the manual errno(3).".to_owned(),
        },
        AttemptCause::NoPacket => {
            "The call failed before a packet was sent. Run again with --failed-calls to record its error.".to_owned()
        }
        AttemptCause::Dns(code) if code == "nxdomain" && is_reverse(&attempt.target) => {
            "The address has no name in DNS. Programs that only print the name go on without it.".to_owned()
        }
        AttemptCause::Dns(code) => dns(report, code),
    }
}

/// `tcp/443`, or words without a port.
fn port(attempt: &Attempt) -> String {
    match (&attempt.target, attempt.protocol) {
        (AttemptTarget::Address(end), Some(protocol)) if protocol.has_ports() => format!("{protocol}/{}", end.port()),
        (_, Some(protocol)) => protocol.to_string(),
        _ => "the port".to_owned(),
    }
}

fn is_v6(attempt: &Attempt) -> bool {
    matches!(&attempt.target, AttemptTarget::Address(end) if end.is_ipv6())
}

/// ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443) have types of their own.
fn icmp(is_v6: bool, IcmpError { kind, code }: IcmpError, port: &str) -> String {
    match (is_v6, kind, code) {
        (false, 3, 3) | (true, 1, 4) => {
            format!("The host answered that nothing listens on {port}. Start the service there, or correct the port.")
        }
        (false, 3, 9 | 10 | 13) | (true, 1, 1 | 5 | 6) => {
            format!("A firewall on the way rejects {port}. Allow it there.")
        }
        (false, 3, _) | (true, 1, _) => {
            "A router answered that it has no route to the host. Check the address, the routes and the VPN.".to_owned()
        }
        (false, 11, _) | (true, 3, _) => "The packets went in a circle or too far. Check the routes.".to_owned(),
        _ => "An ICMP error came back. Check the routes and firewalls on the way.".to_owned(),
    }
}

fn no_route(report: &Report, attempt: &Attempt) -> String {
    let local = &report.interface.local;
    let is_v6_missing = !local.is_empty() && !local.iter().any(std::net::IpAddr::is_ipv6);
    match is_v6(attempt) && is_v6_missing {
        true => "This machine has no IPv6 route. Programs usually fall back to IPv4.".to_owned(),
        false => "There is no route to this address. Check the address, the routes and the VPN.".to_owned(),
    }
}

/// Whether a lookup was for the name of an address.
fn is_reverse(target: &AttemptTarget) -> bool {
    let AttemptTarget::Name(name, _) = target else { return false };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    [".in-addr.arpa", ".ip6.arpa"].iter().any(|zone| name.ends_with(zone))
}

fn dns(report: &Report, code: &str) -> String {
    let resolvers: Vec<String> = report.dns.resolvers.iter().map(ToString::to_string).collect();
    let at = if resolvers.is_empty() { String::new() } else { format!(" ({})", resolvers.join(", ")) };
    match code {
        "nxdomain" => format!(
            "The name does not exist for the DNS resolver{at}. Check its spelling, or use a resolver that has its zone."
        ),
        "servfail" => format!(
            "No DNS resolver{at} gave a valid answer. Check that it can be reached, then the name servers of the zone \
             and DNSSEC."
        ),
        "refused" => format!("The DNS resolver{at} refuses the query. Use one that answers this machine."),
        AttemptCause::TIMEOUT => {
            format!("No DNS response came. Check the resolver{at}, and allow udp/53 and tcp/53 to it.")
        }
        _ => format!("The DNS resolver{at} answered with an error."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowTable, Protocol};
    use crate::name::{Hosts, NameLimits, Names};
    use crate::process::FlowUsers;

    fn text(cause: AttemptCause, target: AttemptTarget) -> String {
        let attempt = Attempt {
            first_ns: 0,
            last_ns: 0,
            count: 1,
            packets: 1,
            target,
            protocol: Some(Protocol::TCP),
            cause,
            process: None,
        };
        remedy(&report(), &attempt)
    }

    fn report() -> Report {
        let facts = crate::report::Facts {
            run: Default::default(),
            interface: crate::report::Interface { local: vec!["198.51.100.2".parse().unwrap()], ..Default::default() },
            dns: crate::report::DnsForwarder { resolvers: vec!["192.0.2.53:53".parse().unwrap()] },
            interface_counters: None,
            complete: true,
            lost: Default::default(),
            processes: Default::default(),
            attempts: Vec::new(),
            notes: Vec::new(),
            replay: None,
        };
        Report::new(
            facts,
            &FlowTable::default(),
            &Names::new(NameLimits::default(), Hosts::default()),
            &FlowUsers::default(),
        )
    }

    #[test]
    fn a_remedy_names_the_port_and_the_resolver() {
        let end = || AttemptTarget::Address("198.51.100.7:9090".parse().unwrap());
        assert!(text(AttemptCause::Timeout, end()).contains("Allow tcp/9090"));
        assert!(text(AttemptCause::Refused, end()).contains("tcp/9090 is closed"));
        let prohibited = AttemptCause::Icmp(IcmpError { kind: 3, code: 13 });
        assert!(text(prohibited, end()).contains("firewall on the way rejects tcp/9090"));
        let name = AttemptTarget::Name("old.example".into(), "A".into());
        assert!(text(AttemptCause::Dns("nxdomain".into()), name).contains("192.0.2.53:53"));
    }

    #[test]
    fn a_missing_ipv6_route_is_no_alarm() {
        // The report has addresses, and none of IPv6.
        let v6 = AttemptTarget::Address("[2001:db8::1]:443".parse().unwrap());
        assert!(text(AttemptCause::Errno(ENETUNREACH), v6).contains("fall back to IPv4"));
    }
}
