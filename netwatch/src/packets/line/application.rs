//! What the payload of a packet is, as far as this packet alone shows it: DNS, TLS, QUIC, HTTP.

use std::fmt::Write as _;

use netwatch_common::parse::{Packet, protocol};

use crate::escape::escape;
use crate::wire::dns::{self, RecordData, RecordType, ResourceRecord};
use crate::wire::{Alpn, http1, quic, text, tls};

/// The words of a payload.
#[derive(Debug, Default)]
pub(super) struct PayloadWords {
    /// The words.
    pub text: String,
    /// It is a message of DNS without its end.
    pub is_cut_dns: bool,
}

/// The words of a payload, of at most `limit` bytes.
pub(super) fn words(packet: &Packet, payload: &[u8], limit: usize, is_verbose: bool) -> Option<PayloadWords> {
    let length = packet.payload_len as usize;
    let whole = |text| PayloadWords { text, is_cut_dns: false };
    let words = match packet.protocol {
        protocol::UDP if packet.is_dns() => dns_words(payload, payload.len() < length, is_verbose),
        protocol::UDP => quic_words(payload).map(whole),
        protocol::TCP if packet.is_dns() => match dns::framed(payload)? {
            dns::Framed::Whole(message, _) => dns_words(message, false, is_verbose),
            // Of a segment that was not captured whole. Otherwise later ones have the rest.
            dns::Framed::Partial(end, message) if payload.len() < length && end == length => {
                dns_words(message, true, is_verbose)
            }
            dns::Framed::Partial(..) => None,
        },
        protocol::TCP => tls_words(payload).or_else(|| http_words(payload, limit)).map(whole),
        _ => None,
    };
    words.map(|words| PayloadWords { text: cut(&words.text, limit), ..words })
}

/// `is_cut`: the end of the message was not captured. The counts of a response are those of its
/// answers, authorities and additional records, and a query has them if it has such records.
fn dns_words(bytes: &[u8], is_cut: bool, is_verbose: bool) -> Option<PayloadWords> {
    let Some(message) = dns::parse(bytes) else {
        return is_cut.then(|| PayloadWords { text: "DNS".to_owned(), is_cut_dns: true });
    };
    let mut words = format!("DNS {}", message.id);
    let [answers, authorities, additional] = message.counts;
    if !message.is_response {
        let counts = [(answers, "a"), (authorities, "n"), (additional, "au")];
        counts.iter().filter(|(count, _)| *count > 0).for_each(|(count, of)| _ = write!(words, " [{count}{of}]"));
    }
    for question in &message.questions {
        _ = write!(words, " {}? {}", question.kind, escape(question.name.as_str()));
    }
    if message.is_response {
        let truncated = if message.is_truncated { " truncated" } else { "" };
        _ = write!(words, " {}{truncated} {answers}/{authorities}/{additional}", message.rcode);
        let data = message.records.iter().filter(|record| record.kind != RecordType::OPT);
        data.for_each(|record| push_record(&mut words, record, is_verbose));
    }
    Some(PayloadWords { text: words, is_cut_dns: !message.whole })
}

/// Type and data, and with `-v` also owner and time to live.
fn push_record(words: &mut String, record: &ResourceRecord, is_verbose: bool) {
    if is_verbose {
        _ = write!(words, " {} [{}s]", escape(record.owner.as_str()), record.ttl);
    }
    _ = write!(words, " {} {}", record.kind, record_data(record));
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
