//! The timestamp option of TCP (RFC 7323), which distinguishes a new connection from a late copy of
//! an old SYN (RFC 6191). Only SYNs and FINs are read: all other packets would pay for it.

use super::{Frame, Packet};
use crate::tcp::{FIN, SYN};

/// Maximum number of options that are read. In SYNs of usual systems the timestamp is among the
/// first six, padding included.
const MAX_OPTIONS: u32 = 8;
/// The end of the options (RFC 9293, 3.1).
const END: u8 = 0;
/// Padding of one byte.
const PADDING: u8 = 1;
/// The timestamp option.
const TIMESTAMP: u8 = 8;
/// Length of the timestamp option: kind, length, TSval, TSecr.
const TIMESTAMP_LEN: u8 = 10;

/// The value (TSval) of the timestamp option of a SYN or FIN; 0 if the packet has none or it cannot
/// be read.
#[inline(always)]
pub fn timestamp<F: Frame>(frame: &F, packet: &Packet) -> u32 {
    if packet.flags & (SYN | FIN) == 0 {
        return 0;
    }
    let mut offset = packet.options_offset;
    for _ in 0..MAX_OPTIONS {
        offset = frame.forget(offset);
        // A single byte before the end is padding.
        if offset + 2 > packet.payload_offset {
            return 0;
        }
        let Some(&[kind, len]) = frame.header::<[u8; 2]>(offset) else { return 0 };
        if kind == TIMESTAMP && len == TIMESTAMP_LEN {
            return value(frame, offset, packet);
        }
        offset += match kind {
            END => return 0,
            PADDING => 1,
            _ if len < 2 => return 0,
            _ => u32::from(len),
        };
    }
    0
}

#[inline(always)]
fn value<F: Frame>(frame: &F, offset: u32, packet: &Packet) -> u32 {
    if offset + u32::from(TIMESTAMP_LEN) > packet.payload_offset {
        return 0;
    }
    let Some(option) = frame.header::<[u8; TIMESTAMP_LEN as usize]>(offset) else { return 0 };
    u32::from_be_bytes([option[2], option[3], option[4], option[5]])
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::parse::Captured;

    /// The timestamp of a packet with these flags and options, of which the first `readable` bytes
    /// can be read.
    fn read(flags: u8, options: &[u8], readable: usize) -> u32 {
        let packet = Packet { flags, options_offset: 3, payload_offset: 3 + options.len() as u32, ..Packet::default() };
        let bytes: Vec<u8> = [&[7; 3], options, &[8, 10, 9, 9, 9, 9, 9, 9, 9, 9]].concat();
        timestamp(&Captured::whole(&bytes[..3 + readable]), &packet)
    }

    #[test]
    fn the_timestamp_is_found_where_usual_systems_have_it() {
        const VALUE: [u8; 10] = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let linux = [&[2, 4, 5, 180, 4, 2][..], &VALUE, &[1, 3, 3, 7]].concat();
        let macos = [&[2, 4, 5, 180, 1, 3, 3, 6, 1, 1][..], &VALUE, &[4, 2, 0, 0]].concat();
        let fin = [&[1, 1][..], &VALUE].concat();
        for options in [&linux, &macos, &fin] {
            assert_eq!(read(SYN, options, options.len()), 0x0102_0304, "{options:?}");
            assert_eq!(read(SYN, options, 11), 0, "truncated: {options:?}");
        }
        assert_eq!((read(FIN, &fin, 12), read(crate::tcp::ACK, &fin, 12)), (0x0102_0304, 0));
    }

    #[test]
    fn invalid_options_give_no_timestamp() {
        for options in [
            &[][..],
            &[1, 1, 1, 1],
            &[0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            &[5, 0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            &[5, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
            &[8, 9, 1, 2, 3, 4, 5, 6, 7],
            &[8, 10, 1, 2, 3, 4, 5, 6, 7],
            &[5, 255, 1, 1],
            &[1, 1, 1, 1, 1, 1, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            assert_eq!(read(SYN, options, options.len() + 10), 0, "{options:?}");
        }
    }
}
