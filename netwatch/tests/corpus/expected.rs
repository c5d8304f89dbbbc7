//! The output of tshark for each file, `expected.jsonl`. The README of the corpus describes how it
//! was generated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::exceptions;
use crate::ours::{Key, Pair, Sums};

/// The expectation for one file.
#[derive(Debug, Deserialize)]
pub struct Expected {
    pub file: String,
    sha256: String,
    pub packets: u64,
    pub bytes: u64,
    pub not_ip_packets: u64,
    pub flows: Vec<Flow>,
    /// Packets and bytes that netwatch counts as malformed. tshark has no such category; see the
    /// exceptions.
    #[serde(default)]
    pub malformed: (u64, u64),
}

/// One flow; end `a` sent the first packet.
#[derive(Debug, Deserialize)]
pub struct Flow {
    pub proto: Option<u8>,
    pub a: String,
    a_port: u16,
    b: String,
    b_port: u16,
    pkts_ab: u64,
    pub bytes_ab: u64,
    pkts_ba: u64,
    bytes_ba: u64,
    #[serde(default)]
    fragmented: bool,
}

/// Every file, with the exceptions applied.
pub fn read(folder: &Path) -> Vec<Expected> {
    let text = std::fs::read_to_string(folder.join("expected.jsonl")).expect("readable");
    let mut all: Vec<Expected> = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    exceptions::make(&mut all);
    all
}

impl Expected {
    /// Verifies that the file is the one that tshark read.
    pub fn assert_same_file(&self, path: &Path) {
        let digest = Sha256::digest(std::fs::read(path).expect("readable"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, self.sha256, "{} is another file", self.file);
    }

    /// Sums by five-tuple, regardless of which end sent the first packet.
    pub fn flows(&self) -> BTreeMap<Key, Sums> {
        let mut flows = BTreeMap::new();
        for flow in &self.flows {
            let sent = Sums { there: (flow.pkts_ab, flow.bytes_ab), back: (flow.pkts_ba, flow.bytes_ba) };
            let (key, sums) = flow.key().sorted(sent);
            *flows.entry(key).or_insert_with(Sums::default) += sums;
        }
        flows
    }

    /// Protocols and addresses of fragments.
    pub fn fragmented(&self) -> BTreeSet<Pair> {
        let fragmented = self.flows.iter().filter(|flow| flow.fragmented);
        fragmented.map(|flow| flow.key().sorted(Sums::default()).0.pair()).collect()
    }
}

impl Flow {
    fn key(&self) -> Key {
        let address = |text: &str| -> IpAddr { text.parse().unwrap_or_else(|_| panic!("{self:?}: no address")) };
        let protocol = self.proto.unwrap_or_else(|| panic!("{self:?}: no protocol"));
        Key { protocol, one: (address(&self.a), self.a_port), other: (address(&self.b), self.b_port) }
    }
}
