//! The purpose of a service in the words of people who run firewalls: `HTTPS`, `PostgreSQL`.

use std::fmt;

use super::need::Service;
use crate::flow::Protocol;
use crate::report::ApplicationProtocol;
use crate::wire::port;

/// Identifiers in reports, and the common names for them.
const PURPOSES: &[(&str, &str)] = &[
    ("amqp", "AMQP"),
    ("amqps", "AMQP over TLS"),
    ("bootpc", "DHCP"),
    ("bootps", "DHCP"),
    ("dhcp", "DHCP"),
    ("dns", "DNS"),
    ("domain", "DNS"),
    ("domain-s", "DNS over TLS"),
    ("dtls", "DTLS"),
    ("ftp", "FTP"),
    ("ftp-data", "FTP data"),
    ("git", "Git"),
    ("http", "HTTP"),
    ("http2", "HTTP/2"),
    ("https", "HTTPS"),
    ("imap", "IMAP"),
    ("imaps", "IMAP over TLS"),
    ("isakmp", "IPsec key exchange"),
    ("kerberos", "Kerberos"),
    ("ldap", "LDAP"),
    ("ldaps", "LDAP over TLS"),
    ("mdns", "multicast DNS"),
    ("microsoft-ds", "SMB"),
    ("mongodb", "MongoDB"),
    ("mqtt", "MQTT"),
    ("ms-wbt-server", "RDP"),
    ("mysql", "MySQL"),
    ("nfs", "NFS"),
    ("ntp", "NTP"),
    ("pop3", "POP3"),
    ("pop3s", "POP3 over TLS"),
    ("postgres", "PostgreSQL"),
    ("postgresql", "PostgreSQL"),
    ("quic", "QUIC"),
    ("rdp", "RDP"),
    ("redis", "Redis"),
    ("rsync", "rsync"),
    ("secure-mqtt", "MQTT over TLS"),
    ("sip", "SIP"),
    ("smb", "SMB"),
    ("smtp", "SMTP"),
    ("snmp", "SNMP"),
    ("ssdp", "UPnP discovery"),
    ("ssh", "SSH"),
    ("stun", "STUN"),
    ("submission", "SMTP"),
    ("submissions", "SMTP over TLS"),
    ("sunrpc", "RPC"),
    ("syslog", "syslog"),
    ("telnet", "Telnet"),
    ("tftp", "TFTP"),
    ("tls", "TLS"),
    ("wireguard", "WireGuard"),
    ("xmpp", "XMPP"),
];

/// The purpose of a service, as people call it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purpose {
    /// `HTTPS`; empty if it is not known.
    pub label: String,
    /// Only the port suggests it: no packet showed the protocol.
    pub is_guess: bool,
}

impl Purpose {
    /// Takes over another purpose of the same service that is more certain.
    pub(super) fn improve(&mut self, other: Self) {
        if self.label.is_empty() || self.is_guess && !other.is_guess && !other.label.is_empty() {
            *self = other;
        }
    }

    /// What follows the label: a question mark behind a guess.
    pub(super) fn mark(&self) -> &'static str {
        if self.is_guess { "?" } else { "" }
    }

    /// The name of the evidence; empty without a label.
    pub(super) fn evidence(&self) -> &'static str {
        match self {
            Self { label, .. } if label.is_empty() => "",
            Self { is_guess: true, .. } => ApplicationProtocol::PORT,
            _ => "content",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.label, self.mark())
    }
}

/// The purpose of a service.
pub(super) fn purpose(service: Service, application: Option<&ApplicationProtocol>) -> Purpose {
    let label = label(service, application);
    let by_port = matches!(service, Service::Ports(..)) && application.is_some_and(|known| !known.is_proven());
    Purpose { is_guess: by_port && !label.is_empty(), label }
}

fn label(service: Service, application: Option<&ApplicationProtocol>) -> String {
    match (service, application.map(|application| application.name.as_ref())) {
        (Service::Echo, _) => "ping".to_owned(),
        (Service::Protocol(Protocol(47)), _) => "GRE".to_owned(),
        (Service::Protocol(Protocol(50)), _) => "IPsec ESP".to_owned(),
        (Service::Ports(Protocol::TCP, port::HTTPS, port::HTTPS), Some("tls" | "http2" | "https")) => {
            "HTTPS".to_owned()
        }
        (Service::Ports(Protocol::UDP, port::HTTPS, port::HTTPS), Some("quic" | "https")) => {
            "HTTPS (HTTP/3)".to_owned()
        }
        (Service::Ports(_, port::ENCRYPTED_DNS, port::ENCRYPTED_DNS), Some("tls")) => "DNS over TLS".to_owned(),
        (_, Some(name)) => {
            let known = PURPOSES.iter().find(|(identifier, _)| *identifier == name);
            known.map_or(name, |(_, label)| *label).to_owned()
        }
        (_, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(protocol: Protocol, port: u16, name: &'static str) -> String {
        let application = ApplicationProtocol { name: name.into(), evidence: "request".into() };
        purpose(Service::Ports(protocol, port, port), Some(&application)).to_string()
    }

    #[test]
    fn purposes_are_common_names() {
        assert_eq!(of(Protocol::TCP, 443, "tls"), "HTTPS");
        assert_eq!(of(Protocol::UDP, 443, "quic"), "HTTPS (HTTP/3)");
        assert_eq!(of(Protocol::TCP, 8443, "tls"), "TLS");
        assert_eq!(of(Protocol::TCP, 5432, "postgresql"), "PostgreSQL");
        assert_eq!(of(Protocol::TCP, 7, "echo"), "echo", "an unknown identifier stays as it is");
        assert_eq!(purpose(Service::Echo, None).to_string(), "ping");
        assert_eq!(purpose(Service::Ports(Protocol::TCP, 1, 1), None).to_string(), "");
    }

    #[test]
    fn a_purpose_that_only_the_port_suggests_has_a_question_mark() {
        let of = |evidence: &'static str| {
            let application = ApplicationProtocol { name: "https".into(), evidence: evidence.into() };
            purpose(Service::Ports(Protocol::TCP, 443, 443), Some(&application))
        };
        let (guess, proven) = (of(ApplicationProtocol::PORT), of("client_hello"));
        assert_eq!([guess.to_string(), proven.to_string()], ["HTTPS?", "HTTPS"]);
        assert_eq!([guess.evidence(), proven.evidence(), Purpose::default().evidence()], ["port", "content", ""]);
        let mut merged = guess.clone();
        merged.improve(proven.clone());
        assert_eq!(merged, proven);
        merged.improve(guess);
        assert_eq!(merged, proven);
    }
}
