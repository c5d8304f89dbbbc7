//! Names that tshark and nDPI found, and known differences.

use std::collections::BTreeSet;
use std::path::Path;

use netwatch::wire::http1::without_port;
use serde_json::Value;

/// The names in one file.
pub struct Expected {
    pub file: String,
    /// Found by tshark, as (source, name) in lower case, hosts without port.
    pub names: BTreeSet<(&'static str, String)>,
    /// Found by nDPI.
    pub flows: Vec<NdpiFlow>,
}

/// A flow in the output of nDPI.
pub struct NdpiFlow {
    /// `TLS`, without the operator that nDPI derives.
    pub application: String,
    /// `198.51.100.1:443`.
    pub ends: [String; 2],
    pub name: Option<String>,
    pub ja4: Option<String>,
}

/// The lists of tshark, and the source under which netwatch must find their names.
pub const LISTS: [(&str, &str); 4] =
    [("tls_sni", "sni"), ("quic_sni", "quic"), ("http_host", "http"), ("dns_query", "dns")];

/// Applications of nDPI whose names are compared.
const NAMED: [&str; 4] = ["TLS", "QUIC", "HTTP", "DNS"];

/// Names that nDPI changed, so that they occur in no packet, with the change.
const REWRITTEN: [(&str, &str, &str); 4] = [
    (
        "dns-exf.pcap",
        "4sicn03_2qaa3rlc3qudhh0aavjycxwakjehelu5klueow0zjxulgage-.4s2fgaaaa__-.test.txt",
        "characters that host names do not have became `_`, and the first two were cut off",
    ),
    ("dns-invalid-chars.pcap", "www.allyourbasesare???ongto.cn", "control characters became `?`"),
    ("dns_ambiguous_names.pcap", "_.teams.microsoft.com", "the question is `*.teams.microsoft.com`"),
    (
        "dns_exfiltration.pcap",
        "e1aa8f8fdb1bbe8d5e04952141f7d4f82c7e3b06dcc8b87fad7a.19e4d098dc8c618f8d81cfeb02",
        "the last 79 bytes of a longer name",
    ),
];

/// Names that netwatch does not find, with the reason.
pub const MISSES: [(&str, &str, &str); 3] = [
    (
        "capwap_data.pcapng",
        "alt2-mtalk.google.com",
        "inside of CAPWAP: IEEE 802.11 frames in a tunnel, which netwatch does not read",
    ),
    (
        "fuzz-2006-09-29-28586.pcap",
        "%s",
        "the host is `%s`, a NUL byte and more; tshark ends at the NUL, netwatch reports all of it",
    ),
    (
        "fuzz-2006-09-29-28586.pcap",
        "172.20.3.5",
        "a request line with bit errors (`HTTP_P/d.1`): not identified as HTTP",
    ),
];

/// Names that only netwatch finds, with the reason why they are correct.
pub const EXTRAS: [(&str, &str, &str); 2] = [
    ("fuzz-2006-09-29-28586.pcap", r"%s\0002.20.3.5", "what tshark reports as `%s`"),
    ("http2.pcapng", "127.0.0.1", ":authority of HTTP/2, which is not in tshark's http.host"),
];

impl Expected {
    /// Every file of the corpus.
    pub fn load(corpus: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(corpus.join("expected.jsonl")).unwrap();
        text.lines().map(|line| Self::read(&serde_json::from_str(line).unwrap())).collect()
    }

    fn read(json: &Value) -> Self {
        let file = json["file"].as_str().unwrap().to_owned();
        let names = LISTS.iter().flat_map(|(list, source)| {
            let names = json[list].as_array().unwrap();
            names.iter().map(move |name| (*source, normal(name.as_str().unwrap(), *list == "http_host")))
        });
        let names = names.collect();
        let flows = json["ndpi_flows"].as_array().unwrap().iter().map(NdpiFlow::read).collect();
        Self { file, names, flows }
    }

    /// Names found by either tool, without those that nDPI changed.
    pub fn union(&self) -> BTreeSet<String> {
        let ndpi = self.flows.iter().filter(|flow| flow.is_named()).filter_map(|flow| flow.name.clone());
        let names = self.names.iter().map(|(_, name)| name.clone());
        ndpi.filter(|name| !self.is_rewritten(name)).chain(names).collect()
    }

    pub fn is_rewritten(&self, name: &str) -> bool {
        listed(&REWRITTEN, &self.file, name)
    }
}

/// Whether a list contains a name of a file.
pub fn listed(list: &[(&str, &str, &str)], file: &str, name: &str) -> bool {
    list.iter().any(|(in_file, listed, _)| (*in_file, *listed) == (file, name))
}

impl NdpiFlow {
    fn read(json: &Value) -> Self {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let application = json["app"].as_str().unwrap();
        let application = application.split_once('/').unwrap().1.split('.').next().unwrap();
        Self {
            application: application.to_owned(),
            ends: [text("a").unwrap(), text("b").unwrap()],
            name: text("name").map(|name| normal(&name, application == "HTTP")),
            ja4: text("ja4"),
        }
    }

    /// Whether its name is compared.
    pub fn is_named(&self) -> bool {
        NAMED.contains(&self.application.as_str()) && self.name.is_some()
    }
}

/// The name in the form of netwatch: in lower case, with control characters escaped in decimal
/// instead of octal digits, hosts without port.
fn normal(name: &str, is_host: bool) -> String {
    let lower = name.to_ascii_lowercase();
    if is_host { String::from_utf8(without_port(lower.as_bytes()).to_vec()).unwrap() } else { lower }
}
