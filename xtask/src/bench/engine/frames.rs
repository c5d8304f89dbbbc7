//! Frames of 100 bytes, and their metadata for the kernel.

/// Bytes of a `struct __sk_buff`.
const CONTEXT: usize = 192;

/// Bytes of every frame.
pub const LENGTH: usize = 100;

const ETHERNET: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ACK_PUSH: u8 = 0x18;

/// A frame, its `__sk_buff`, and the offsets of the fields that the driver changes.
#[derive(Debug, Clone)]
pub struct BenchFrame {
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
    /// The `__sk_buff`: metadata besides the bytes.
    pub context: [u8; CONTEXT],
    /// Offset of the ports.
    pub ports_at: u32,
    /// Offset of the last two bytes of the source address.
    pub address_at: u32,
    /// Payload bytes behind TCP's header; 0 if it is not TCP.
    pub payload: u32,
}

impl BenchFrame {
    fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, context: [0; CONTEXT], ports_at: 0, address_at: 0, payload: 0 }
    }

    fn steerable(self, ports_at: usize, address_at: usize) -> Self {
        let payload = (LENGTH - ports_at - 20) as u32;
        Self { ports_at: ports_at as u32, address_at: address_at as u32, payload, ..self }
    }
}

/// IPv4 and TCP.
pub fn tcp4() -> BenchFrame {
    BenchFrame::of(ethernet(0x0800, ipv4(&[], 0, TCP, tcp()))).steerable(34, 28)
}

/// IPv6 and TCP.
pub fn tcp6() -> BenchFrame {
    BenchFrame::of(ethernet(0x86dd, ipv6(TCP, tcp()))).steerable(54, 36)
}

/// IPv4 and UDP.
pub fn udp4() -> BenchFrame {
    BenchFrame::of(ethernet(0x0800, ipv4(&[], 0, UDP, udp())))
}

/// IPv6 and UDP.
pub fn udp6() -> BenchFrame {
    BenchFrame::of(ethernet(0x86dd, ipv6(UDP, udp())))
}

/// A VLAN tag in the frame.
pub fn vlan() -> BenchFrame {
    BenchFrame::of(ethernet(0x8100, [&[0, 7, 8, 0][..], &ipv4(&[], 0, TCP, tcp())].concat()))
}

/// Twelve bytes of options: a router alert (RFC 2113) and padding.
pub fn options() -> BenchFrame {
    BenchFrame::of(ethernet(0x0800, ipv4(&[0x94, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0], 0, TCP, tcp())))
}

/// Hop-by-hop options and destination options.
pub fn extensions() -> BenchFrame {
    let destination = [&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &tcp()].concat();
    let hop_by_hop = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &destination].concat();
    BenchFrame::of(ethernet(0x86dd, ipv6(0, hop_by_hop)))
}

/// The first fragment of a datagram, and the last.
pub fn fragments4() -> [BenchFrame; 2] {
    [0x2000, 9].map(|flags_and_offset| BenchFrame::of(ethernet(0x0800, ipv4(&[], flags_and_offset, UDP, udp()))))
}

/// The first fragment of a datagram, and the last.
pub fn fragments6() -> [BenchFrame; 2] {
    [1, 0x48].map(|offset_and_flags| {
        BenchFrame::of(ethernet(
            0x86dd,
            ipv6(FRAGMENT, [&[UDP, 0, 0, offset_and_flags, 0, 0, 0, 7][..], &udp()].concat()),
        ))
    })
}

/// A super-frame of two segments: the frame stands for its first bytes.
pub fn gso() -> BenchFrame {
    // Offsets in `struct __sk_buff`, a stable interface of the kernel.
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut frame = tcp4();
    frame.context[GSO_SEGS..][..4].copy_from_slice(&2_u32.to_ne_bytes());
    frame.context[GSO_SIZE..][..4].copy_from_slice(&23_u32.to_ne_bytes());
    frame
}

fn ethernet(ethertype: u16, rest: Vec<u8>) -> Vec<u8> {
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ethertype.to_be_bytes()[..], &rest].concat();
    fixed_length(frame)
}

/// Truncates or fills the payload, and corrects the length field of the IP header.
fn fixed_length(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(LENGTH, 0);
    let ip = if frame[12] == 0x81 { ETHERNET + 4 } else { ETHERNET };
    let (field, length) = if frame[ip] >> 4 == 4 { (ip + 2, LENGTH - ip) } else { (ip + 4, LENGTH - ip - 40) };
    frame[field..][..2].copy_from_slice(&(length as u16).to_be_bytes());
    frame
}

fn ipv4(options: &[u8], fragment: u16, protocol: u8, rest: Vec<u8>) -> Vec<u8> {
    let first = 0x45 + options.len() as u8 / 4;
    let fixed = [&[first, 0, 0, 0, 0, 7], &fragment.to_be_bytes()[..], &[64, protocol, 0, 0]].concat();
    [&fixed[..], &[198, 51, 100, 2], &[203, 0, 113, 9], options, &rest].concat()
}

fn ipv6(next: u8, rest: Vec<u8>) -> Vec<u8> {
    let local = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let remote = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    [&[0x60, 0, 0, 0, 0, 0, next, 64], &local[..], &remote, &rest].concat()
}

/// Of an established connection: 40000 to 443.
fn tcp() -> Vec<u8> {
    [&ports()[..], &[0, 0, 3, 0xe8, 0, 0, 0, 1], &[0x50, ACK_PUSH, 1, 0, 0, 0, 0, 0]].concat()
}

/// 40000 to 443.
fn udp() -> Vec<u8> {
    [&ports()[..], &[0, 46, 0, 0]].concat()
}

fn ports() -> [u8; 4] {
    let [source, destination] = [40_000_u16, 443].map(u16::to_be_bytes);
    [source[0], source[1], destination[0], destination[1]]
}
