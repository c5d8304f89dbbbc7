//! What IANA registered a port for: a guess, and said to be one.

use super::known::Spoken;
use crate::flow::{EndpointKey, Protocol};

/// Ports that people know by name, from IANA's registry (RFC 6335).
const TCP: [(u16, &str); 32] = [
    (20, "ftp-data"),
    (21, "ftp"),
    (22, "ssh"),
    (23, "telnet"),
    (25, "smtp"),
    (53, "domain"),
    (80, "http"),
    (88, "kerberos"),
    (110, "pop3"),
    (111, "sunrpc"),
    (143, "imap"),
    (389, "ldap"),
    (443, "https"),
    (445, "microsoft-ds"),
    (465, "submissions"),
    (587, "submission"),
    (636, "ldaps"),
    (853, "domain-s"),
    (873, "rsync"),
    (993, "imaps"),
    (995, "pop3s"),
    (1883, "mqtt"),
    (2049, "nfs"),
    (3128, "ndl-aas"),
    (3306, "mysql"),
    (3389, "ms-wbt-server"),
    (5432, "postgresql"),
    (5671, "amqps"),
    (5672, "amqp"),
    (6379, "redis"),
    (8883, "secure-mqtt"),
    (9418, "git"),
];
const UDP: [(u16, &str); 13] = [
    (53, "domain"),
    (67, "bootps"),
    (68, "bootpc"),
    (69, "tftp"),
    (88, "kerberos"),
    (123, "ntp"),
    (161, "snmp"),
    (443, "https"),
    (500, "isakmp"),
    (514, "syslog"),
    (853, "domain-s"),
    (3478, "stun"),
    (5353, "mdns"),
];

/// The registered service of an endpoint's port.
pub(super) fn spoken(key: &EndpointKey) -> Option<Spoken> {
    let known: &[(u16, &'static str)] = match key.protocol {
        Protocol::TCP => &TCP,
        Protocol::UDP => &UDP,
        _ => return None,
    };
    let (_, service) = known.iter().find(|(port, _)| *port == key.port)?;
    Some(Spoken { application: (*service).into(), evidence: Spoken::PORT.into() })
}
