//! The cases of the part `micro`: kinds of frames and numbers of flows.

use crate::frames::{self, BenchFrame};

/// One kind of traffic.
pub struct FrameCase {
    /// Name in the output.
    pub name: &'static str,
    /// Sent once before: a first fragment.
    pub before: Option<BenchFrame>,
    /// Sent repeatedly.
    pub frame: BenchFrame,
    /// Number of flows that the driver makes of the frame; `None`: no driver, the frame does not
    /// change.
    pub flows: Option<u64>,
    /// The goal: maximum ratio to the plain hash in the same round, both over the empty program.
    pub goal: Option<f64>,
}

/// Runs per round; more if there are more flows.
const RUNS: u64 = 400_000;

impl FrameCase {
    fn one(name: &'static str, frame: BenchFrame) -> Self {
        Self { name, before: None, frame, flows: None, goal: None }
    }

    fn after(self, before: BenchFrame) -> Self {
        Self { before: Some(before), ..self }
    }

    fn flows(self, flows: u64) -> Self {
        Self { flows: Some(flows), ..self }
    }

    fn goal(self, of_plain: f64) -> Self {
        Self { goal: Some(of_plain), ..self }
    }

    /// Runs in one round.
    pub fn runs(&self) -> u64 {
        RUNS.max(self.flows.unwrap_or(0))
    }
}

/// One IPv4 TCP flow: the hot path. Its sequence numbers advance, because a repeated segment is a
/// retransmission.
pub fn hot() -> FrameCase {
    FrameCase::one("IPv4 TCP, sequence advancing", frames::tcp4()).flows(1).goal(0.15)
}

/// 256 flows in turn.
pub fn several() -> FrameCase {
    FrameCase::one("IPv4 TCP, 256 flows", frames::tcp4()).flows(256).goal(0.2)
}

/// All cases.
pub fn all() -> Vec<FrameCase> {
    let [first4, later4] = frames::fragments4();
    let [first6, later6] = frames::fragments6();
    vec![
        hot(),
        FrameCase::one("IPv4 TCP, the same segment", frames::tcp4()),
        FrameCase::one("IPv6 TCP, the same segment", frames::tcp6()),
        FrameCase::one("IPv6 TCP, sequence advancing", frames::tcp6()).flows(1).goal(0.15),
        FrameCase::one("IPv4 UDP", frames::udp4()),
        FrameCase::one("IPv6 UDP", frames::udp6()),
        FrameCase::one("IPv4 TCP, VLAN tag in the frame", frames::vlan()),
        FrameCase::one("IPv4 TCP, 12 bytes of options", frames::options()),
        FrameCase::one("IPv6 TCP, two extension headers", frames::extensions()),
        FrameCase::one("IPv4 UDP, first fragment", first4.clone()),
        FrameCase::one("IPv4 UDP, later fragment", later4).after(first4),
        FrameCase::one("IPv6 UDP, later fragment", later6).after(first6),
        FrameCase::one("IPv4 TCP, GSO of two segments", frames::gso()),
        several(),
        FrameCase::one("IPv4 TCP, 1 K flows", frames::tcp4()).flows(1 << 10),
        FrameCase::one("IPv4 TCP, 64 K flows", frames::tcp4()).flows(1 << 16).goal(0.6),
        FrameCase::one("IPv4 TCP, 1 M flows, table of 131 072", frames::tcp4()).flows(1 << 20).goal(0.5),
    ]
}
