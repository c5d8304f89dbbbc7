//! What the payload of a packet is, as far as this packet alone shows it: DNS, TLS, QUIC, HTTP.

use std::fmt::Write as _;

use netwatch_common::parse::{Packet, protocol};

use crate::escape::escape;
use crate::wire::dns::{self, RecordData, RecordType, ResourceRecord};
use crate::wire::{Alpn, http1, quic, text, tls};

/// The words of a payload, of at most `limit` bytes.
pub(super) fn words(packet: &Packet, payload: &[u8], limit: usize) -> Option<String> {
    let words = match packet.protocol {
        protocol::UDP if packet.is_dns() => dns_words(payload),
        protocol::UDP => quic_words(payload),
        protocol::TCP if packet.is_dns() => match dns::framed(payload)? {
            dns::Framed::Whole(message, _) => dns_words(message),
            dns::Framed::Partial(..) => None,
        },
        protocol::TCP => tls_words(payload).or_else(|| http_words(payload, limit)),
        _ => None,
    };
    words.map(|words| cut(&words, limit))
}

fn dns_words(message: &[u8]) -> Option<String> {
    let message = dns::parse(message)?;
    let mut words = format!("DNS {}", message.id);
    for question in &message.questions {
        _ = write!(words, " {}? {}", question.kind, escape(question.name.as_str()));
    }
    if message.is_response {
        _ = write!(words, " {}", message.rcode);
        let data = message.records.iter().filter(|record| record.kind != RecordType::OPT);
        data.for_each(|record| _ = write!(words, " {} {}", record.kind, record_data(record)));
    }
    Some(words)
}

fn record_data(record: &ResourceRecord) -> String {
    match &record.data {
        RecordData::Address(address) => address.to_string(),
        RecordData::Alias(name) | RecordData::Pointer(name) | RecordData::Server(name) => {
            escape(name.as_str()).into_owned()
        }
        RecordData::ServiceBinding(binding) => {
            let target = binding.target.as_ref().map_or(".".into(), |target| escape(target.as_str()));
            format!("{} {target}{}", binding.priority, protocols(&binding.alpn))
        }
        RecordData::Other => "…".to_owned(),
    }
}

/// ` (h2, http/1.1)`, or nothing.
fn protocols(alpn: &[Alpn]) -> String {
    let names: Vec<&str> = alpn.iter().map(Alpn::as_str).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", escape(&names.join(", "))) }
}

fn tls_words(payload: &[u8]) -> Option<String> {
    let message = tls::first_message(payload)?;
    if message.is_client {
        let hello = tls::ClientHello::parse(&message.body, message.whole, tls::Carrier::Tls)?;
        return Some(format!("TLS {}", client_hello(&tls::Hello::from(&hello))));
    }
    let hello = tls::ServerHello::parse(&message.body)?;
    let alpn: Vec<Alpn> = hello.alpn.into_iter().collect();
    Some(format!("TLS ServerHello {}{}", hello.version, protocols(&alpn)))
}

fn client_hello(hello: &tls::Hello) -> String {
    let name = hello.server_name.as_ref().map_or(String::new(), |name| format!(" {}", escape(name.as_str())));
    format!("ClientHello {}{name}{}", hello.version, protocols(&hello.alpn))
}

/// The keys of the first packets of a client follow from the packets themselves.
fn quic_words(payload: &[u8]) -> Option<String> {
    let observed = quic::QuicHandshake::default().observe(payload)?;
    let hello = observed.hello.map_or(String::new(), |hello| format!(" {}", client_hello(&hello)));
    Some(format!("QUIC {}{hello}", observed.version))
}

/// The request line or the status line.
fn http_words(payload: &[u8], limit: usize) -> Option<String> {
    let is_http = matches!(http1::request(payload), http1::Begins::Yes(_)) || http1::response(payload).is_some();
    let line = payload.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    is_http.then(|| format!("HTTP {}", text::escape(line, limit)))
}

/// At most `limit` bytes.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
