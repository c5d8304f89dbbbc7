//! RTP (RFC 3550). Its header alone is weak evidence; three packets in sequence are enough.

use crate::wire::ByteReader;

/// Number of packets in sequence that identify RTP.
const MIN_SEQUENCE: u8 = 3;

/// State of one direction of a flow.
#[derive(Debug, Default)]
pub struct Rtp {
    last: Option<RtpHeader>,
    run: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RtpHeader {
    payload_type: u8,
    sequence: u16,
    source: u32,
}

impl Rtp {
    /// Takes a datagram; returns true once enough were in sequence.
    pub fn observe(&mut self, datagram: &[u8]) -> bool {
        let header = header(datagram);
        self.run = match (self.last, header) {
            (Some(last), Some(header)) if header == last.next() => self.run.saturating_add(1),
            (_, Some(_)) => 1,
            (_, None) => 0,
        };
        self.last = header;
        self.run >= MIN_SEQUENCE
    }
}

impl RtpHeader {
    fn next(self) -> Self {
        Self { sequence: self.sequence.wrapping_add(1), ..self }
    }
}

fn header(datagram: &[u8]) -> Option<RtpHeader> {
    let mut reader = ByteReader::new(datagram);
    let (first, second) = (reader.u8()?, reader.u8()?);
    let sequence = reader.u16()?;
    let _timestamp = reader.u32()?;
    let source = reader.u32()?;
    reader.take(usize::from(first & 0x0f) * 4)?;
    let payload_type = second & 0x7f;
    // RTCP's packet types would be 72 to 76.
    (first >> 6 == 2 && !(72..=76).contains(&payload_type)).then_some(RtpHeader { payload_type, sequence, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, source: u8) -> Vec<u8> {
        [&[0x80, 0xe0][..], &sequence.to_be_bytes(), &[0, 0, 0, 9, 0, 0, 0, source], b"voice"].concat()
    }

    #[test]
    fn identifies_three_packets_in_sequence() {
        let mut rtp = Rtp::default();
        assert!(!rtp.observe(&packet(u16::MAX, 1)) && !rtp.observe(&packet(0, 1)) && rtp.observe(&packet(1, 1)));
    }

    #[test]
    fn a_gap_restarts_the_sequence() {
        let mut rtp = Rtp::default();
        let observed =
            [packet(1, 1), packet(2, 1), packet(3, 2), packet(4, 2), packet(6, 2), packet(7, 2), b"noise".to_vec()];
        assert!(observed.iter().all(|datagram| !rtp.observe(datagram)));
    }
}
