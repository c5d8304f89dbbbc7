//! Unencrypted tunnels in UDP: the frame inside.

use super::identify::Ports;
use super::{Application, ByteReader, port};

/// The frame that a packet of a tunnel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerFrame {
    /// The protocol of the tunnel.
    pub application: Application,
    /// The frame from its Ethernet header on. If the tunnel carries bare IP packets, an Ethernet
    /// header is added.
    pub frame: Vec<u8>,
}

/// The frame inside a packet of VXLAN (RFC 7348), Geneve (RFC 8926) or GTP-U (3GPP TS 29.281).
pub fn inner_frame(payload: &[u8], ports: Ports) -> Option<InnerFrame> {
    match ports.destination {
        port::VXLAN | port::VXLAN_LINUX => vxlan(payload),
        port::GENEVE => geneve(payload),
        port::GTP_U => gtp(payload),
        _ => None,
    }
}

fn vxlan(payload: &[u8]) -> Option<InnerFrame> {
    let (header, frame) = payload.split_first_chunk::<8>()?;
    let [0x08, 0, 0, 0, _, _, _, 0] = header else { return None };
    Some(InnerFrame { application: Application::Vxlan, frame: frame.to_vec() })
}

fn geneve(payload: &[u8]) -> Option<InnerFrame> {
    const ETHERNET: u16 = 0x6558;
    let mut reader = ByteReader::new(payload);
    let (first, _flags, protocol) = (reader.u8()?, reader.u8()?, reader.u16()?);
    reader.u32()?;
    reader.take(usize::from(first & 0x3f) * 4)?;
    (first >> 6 == 0 && protocol == ETHERNET)
        .then(|| InnerFrame { application: Application::Geneve, frame: reader.rest().to_vec() })
}

fn gtp(payload: &[u8]) -> Option<InnerFrame> {
    const USER_DATA: u8 = 0xff;
    const HAS_OPTIONS: u8 = 0x07;
    const HAS_EXTENSION: u8 = 0x04;
    let mut reader = ByteReader::new(payload);
    let (flags, kind) = (reader.u8()?, reader.u8()?);
    if flags & 0xf0 != 0x30 || kind != USER_DATA {
        return None;
    }
    let length = usize::from(reader.u16()?);
    reader.u32()?;
    let mut reader = ByteReader::new(reader.take_some(length).0);
    if flags & HAS_OPTIONS != 0 {
        reader.take(3)?;
        let mut next = reader.u8().filter(|_| flags & HAS_EXTENSION != 0).unwrap_or(0);
        while next != 0 {
            let words = usize::from(reader.u8()?).checked_sub(1)?;
            reader.take(words * 4 + 2)?;
            next = reader.u8()?;
        }
    }
    ip_frame(reader.rest()).map(|frame| InnerFrame { application: Application::Gtp, frame })
}

/// Puts an Ethernet header before an IP packet.
fn ip_frame(packet: &[u8]) -> Option<Vec<u8>> {
    let ethertype: u16 = match packet.first()? >> 4 {
        4 => 0x0800,
        6 => 0x86dd,
        _ => return None,
    };
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Ports {
        Ports { source: 40_000, destination: port }
    }

    #[test]
    fn finds_the_frame_inside() {
        let frame = |port, bytes: &[u8]| inner_frame(bytes, at(port)).map(|inner| inner.frame);
        assert_eq!(frame(4789, b"\x08\0\0\0\0\0\x07\0frame").unwrap(), b"frame");
        assert_eq!(frame(6081, b"\x01\0\x65\x58\0\0\x07\0opt1frame").unwrap(), b"frame");
        let ip = b"\x45packet";
        let made = |prefix: &[u8]| frame(2152, &[prefix, ip].concat()).map(|frame| frame[12..].to_vec());
        let expected = [b"\x08\0", &ip[..]].concat();
        assert_eq!(made(b"\x30\xff\0\x07\0\0\0\x01").unwrap(), expected);
        assert_eq!(made(b"\x34\xff\0\x0f\0\0\0\x01\0\0\0\x85\x01\0\0\0").unwrap(), expected);
        assert_eq!(made(b"\x30\x01\0\x07\0\0\0\x01"), None);
        assert_eq!(frame(4789, b"\x09\0\0\0\0\0\x07\0frame"), None);
        assert_eq!(frame(53, b"\x08\0\0\0\0\0\x07\0frame"), None);
    }
}
