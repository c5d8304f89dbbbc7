//! What is sent through the classifiers: kinds of frames, and numbers of flows.

use crate::frames::{self, Frame};

/// One kind of traffic.
pub struct Case {
    /// As it is printed.
    pub name: &'static str,
    /// Seen once before; a first fragment.
    pub before: Option<Frame>,
    /// Sent again and again.
    pub frame: Frame,
    /// How many flows the driver makes of the frame; `None`: no driver, the frame stays as it is.
    pub flows: Option<u64>,
    /// The goal of the issue: ns over the empty program.
    pub goal_ns: Option<f64>,
}

/// Runs per round; with more flows, each has at least one.
const RUNS: u64 = 400_000;

impl Case {
    fn one(name: &'static str, frame: Frame) -> Self {
        Self { name, before: None, frame, flows: None, goal_ns: None }
    }

    fn after(self, before: Frame) -> Self {
        Self { before: Some(before), ..self }
    }

    fn flows(self, flows: u64) -> Self {
        Self { flows: Some(flows), ..self }
    }

    fn goal(self, ns: f64) -> Self {
        Self { goal_ns: Some(ns), ..self }
    }

    /// Runs in one round.
    pub fn runs(&self) -> u64 {
        RUNS.max(self.flows.unwrap_or(0))
    }
}

/// One IPv4 TCP flow: the hot path. Its sequence numbers advance: the same segment again would be a
/// retransmission.
pub fn hot() -> Case {
    Case::one("IPv4 TCP, sequence advancing", frames::tcp4()).flows(1).goal(14.0)
}

/// 256 flows in turn.
pub fn several() -> Case {
    Case::one("IPv4 TCP, 256 flows", frames::tcp4()).flows(256).goal(35.0)
}

/// All of them.
pub fn all() -> Vec<Case> {
    let [first4, later4] = frames::fragments4();
    let [first6, later6] = frames::fragments6();
    vec![
        hot(),
        Case::one("IPv4 TCP, the same segment", frames::tcp4()),
        Case::one("IPv6 TCP, the same segment", frames::tcp6()),
        Case::one("IPv6 TCP, sequence advancing", frames::tcp6()).flows(1).goal(18.0),
        Case::one("IPv4 UDP", frames::udp4()),
        Case::one("IPv6 UDP", frames::udp6()),
        Case::one("IPv4 TCP, VLAN tag in the frame", frames::vlan()),
        Case::one("IPv4 TCP, 12 bytes of options", frames::options()),
        Case::one("IPv6 TCP, two extension headers", frames::extensions()),
        Case::one("IPv4 UDP, first fragment", first4.clone()),
        Case::one("IPv4 UDP, later fragment", later4).after(first4),
        Case::one("IPv6 UDP, later fragment", later6).after(first6),
        Case::one("IPv4 TCP, GSO of two segments", frames::gso()),
        several(),
        Case::one("IPv4 TCP, 1 K flows", frames::tcp4()).flows(1 << 10),
        Case::one("IPv4 TCP, 64 K flows", frames::tcp4()).flows(1 << 16).goal(90.0),
        Case::one("IPv4 TCP, 1 M flows, table of 131 072", frames::tcp4()).flows(1 << 20).goal(350.0),
    ]
}
