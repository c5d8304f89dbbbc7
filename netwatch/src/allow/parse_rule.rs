//! Reads one `[[allow]]` of a policy.

use ipnet::IpNet;
use toml_edit::{Item, Table, Value};

use super::date::PolicyDate;
use super::parse::{Located, entries, unknown};
use super::pattern::NamePattern;
use super::rule::{AllowRule, AllowedAddress, AllowedProtocol, NameEvidence, PortRange};
use crate::flow::{Direction, Protocol};

const KEYS: [&str; 9] = ["name", "address", "port", "protocol", "direction", "process", "evidence", "why", "until"];

/// Reads the table of a rule that begins on this line.
pub(super) fn rule(table: &Table, line: usize) -> Result<AllowRule, Located> {
    let mut rule = AllowRule { line, ..AllowRule::any(Direction::Egress) };
    let of_lookups = table.get("protocol").and_then(Item::as_str) == Some("dns");
    for (key, item) in entries(table) {
        match key.get() {
            "name" => rule.names = each(item, |value| name(value, of_lookups))?,
            "address" => rule.addresses = each(item, address)?,
            "port" => rule.ports = each(item, ports)?,
            "protocol" => rule.protocol = Some(one(item, protocol)?),
            "direction" => rule.direction = one(item, direction)?,
            "process" => rule.processes = each(item, |value| string(value).map(str::to_owned))?,
            "evidence" => rule.evidence = one(item, evidence)?,
            "why" => rule.why = Some(one(item, |value| string(value).map(str::to_owned))?),
            "until" => rule.until = Some(one(item, date)?),
            _ => return Err(unknown(key, &KEYS)),
        }
    }
    check(&rule, table).map(|()| rule)
}

/// Refuses combinations that no traffic matches, or that allow everything.
fn check(rule: &AllowRule, table: &Table) -> Result<(), Located> {
    let lookups_only = rule.is_for_lookups();
    let without_ports = rule.protocol.is_some_and(|protocol| !has_ports(protocol));
    let has_nothing = rule.names.is_empty()
        && rule.addresses.is_empty()
        && rule.ports.is_empty()
        && rule.protocol.is_none()
        && rule.processes.is_empty();
    let wrong = [
        (has_nothing, "allow", "a rule needs a name, address, port, protocol or process"),
        (rule.direction == Direction::Ingress && !rule.names.is_empty(), "name", "a name needs direction \"out\""),
        (rule.names.is_empty() && rule.evidence != NameEvidence::Both, "evidence", "evidence needs a name"),
        (lookups_only && rule.names.is_empty(), "protocol", "protocol \"dns\" needs a name"),
        (lookups_only && !rule.addresses.is_empty(), "address", "protocol \"dns\" has no address"),
        (without_ports && !rule.ports.is_empty(), "port", "the protocol has no ports"),
    ];
    match wrong.iter().find(|(is_wrong, ..)| *is_wrong) {
        None => Ok(()),
        Some((_, key, cause)) => {
            let span = table.key(key).map_or_else(|| table.span(), |key| key.span());
            Err(((*cause).to_owned(), span))
        }
    }
}

fn has_ports(protocol: AllowedProtocol) -> bool {
    matches!(protocol, AllowedProtocol::Ip(protocol) if protocol.has_ports())
}

/// Reads a value.
fn one<T>(item: &Item, read: impl Fn(&Value) -> Result<T, String>) -> Result<T, Located> {
    let value = item.as_value().ok_or_else(|| ("expected a value".to_owned(), item.span()))?;
    read(value).map_err(|cause| (cause, value.span()))
}

/// Reads a value, or a list with at least one.
fn each<T>(item: &Item, read: impl Fn(&Value) -> Result<T, String>) -> Result<Vec<T>, Located> {
    let Some(list) = item.as_array() else { return one(item, read).map(|value| vec![value]) };
    if list.is_empty() {
        return Err(("the list is empty: leave the key out to match everything".into(), item.span()));
    }
    list.iter().map(|value| read(value).map_err(|cause| (cause, value.span()))).collect()
}

fn string(value: &Value) -> Result<&str, String> {
    value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| "expected a string that is not empty".to_owned())
}

/// Queries can have an address as their name, but no remote has one.
fn name(value: &Value, of_lookups: bool) -> Result<NamePattern, String> {
    let text = string(value)?;
    if !of_lookups && is_address(text) {
        return Err(format!("an address is no name: use address = \"{text}\""));
    }
    NamePattern::parse(text)
}

/// Whether the text of a name is an IP address.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

fn address(value: &Value) -> Result<AllowedAddress, String> {
    let text = string(value)?;
    if text == "host" {
        return Ok(AllowedAddress::Host);
    }
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(AllowedAddress::Net(address.into()));
    }
    let expected = || "expected an address, a prefix such as 10.0.0.0/8, or \"host\"".to_owned();
    let net: IpNet = text.parse().map_err(|_| expected())?;
    match net.trunc() == net {
        true => Ok(AllowedAddress::Net(net)),
        false => Err(format!("the prefix has bits beyond its length: {}", net.trunc())),
    }
}

fn ports(value: &Value) -> Result<PortRange, String> {
    let expected = || "expected a port from 0 to 65535, or a range such as \"8000-8099\"".to_owned();
    if let Some(number) = value.as_integer() {
        return u16::try_from(number).map(PortRange::one).map_err(|_| expected());
    }
    let text = value.as_str().ok_or_else(expected)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(PortRange { first, last }),
        _ => Err(expected()),
    }
}

fn protocol(value: &Value) -> Result<AllowedProtocol, String> {
    let expected = || "expected \"tcp\", \"udp\", \"sctp\", \"icmp\", \"dns\" or the number of a protocol".to_owned();
    if let Some(number) = value.as_integer() {
        return u8::try_from(number).map(|number| AllowedProtocol::Ip(Protocol(number))).map_err(|_| expected());
    }
    match value.as_str() {
        Some("tcp") => Ok(AllowedProtocol::Ip(Protocol::TCP)),
        Some("udp") => Ok(AllowedProtocol::Ip(Protocol::UDP)),
        Some("sctp") => Ok(AllowedProtocol::Ip(Protocol::SCTP)),
        Some("icmp") => Ok(AllowedProtocol::Icmp),
        Some("dns") => Ok(AllowedProtocol::Lookup),
        _ => Err(expected()),
    }
}

fn direction(value: &Value) -> Result<Direction, String> {
    match value.as_str() {
        Some("out") => Ok(Direction::Egress),
        Some("in") => Ok(Direction::Ingress),
        _ => Err("expected \"out\" or \"in\"".into()),
    }
}

fn evidence(value: &Value) -> Result<NameEvidence, String> {
    match value.as_str() {
        Some("both") => Ok(NameEvidence::Both),
        Some("dns") => Ok(NameEvidence::Dns),
        Some("server-name") => Ok(NameEvidence::ServerName),
        _ => Err("expected \"both\", \"dns\" or \"server-name\"".into()),
    }
}

fn date(value: &Value) -> Result<PolicyDate, String> {
    let date = value.as_datetime().filter(|moment| moment.time.is_none()).and_then(|moment| moment.date);
    let date = date.ok_or_else(|| "expected a date without quotes: 2027-01-01".to_owned())?;
    Ok(PolicyDate::new(date.year, date.month, date.day))
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;

    #[test]
    fn an_address_is_no_name() {
        for (name, column) in
            [("\"198.51.100.7\"", 8), ("\"2001:db8::7\"", 8), ("[\"app.example\", \"198.51.100.7\"]", 24)]
        {
            let error = parse(&format!("[[allow]]\nname = {name}\n")).expect_err("no name");
            assert_eq!((error.line, error.column), (2, column), "{name}");
            assert!(error.cause.starts_with("an address is no name: use address = "), "{}", error.cause);
        }
        assert!(parse("[[allow]]\nname = \"198.51.100.7\"\nprotocol = \"dns\"\n").is_ok(), "a query of this name");
        assert!(parse("[[allow]]\nname = [\"198.51.100.7.example\", \"*.100.7\"]\n").is_ok());
    }
}
