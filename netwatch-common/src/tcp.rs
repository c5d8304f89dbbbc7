//! TCP's flag bits and sequence numbers (RFC 9293).

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// The answer to a SYN.
pub const SYN_ACK: u8 = SYN | ACK;

/// Whether a packet requests a connection: a SYN that answers nothing.
#[inline(always)]
pub fn is_request(flags: u8) -> bool {
    flags & (SYN | ACK | RST) == SYN
}

/// Whether a connection is closed, given the OR of all flags that each side has sent: a FIN from
/// both sides, or a RST from either.
pub fn is_closed(egress: u8, ingress: u8) -> bool {
    (egress | ingress) & RST != 0 || egress & ingress & FIN != 0
}

/// Whether a sequence number comes before another (RFC 9293, 3.4). Of two numbers that are half the
/// number space apart, neither comes before the other.
#[inline(always)]
pub fn is_before(one: u32, other: u32) -> bool {
    other.wrapping_sub(one) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_closed_by_both_fins_or_one_rst() {
        for (egress, ingress, closed) in [
            (0, 0, false),
            (SYN | ACK | FIN, SYN_ACK, false),
            (ACK, ACK | FIN, false),
            (ACK | FIN, ACK | FIN, true),
            (SYN, RST | ACK, true),
            (SYN | RST, 0, true),
        ] {
            assert_eq!(is_closed(egress, ingress), closed, "{egress:#x} {ingress:#x}");
        }
    }

    #[test]
    fn sequence_numbers_wrap_around() {
        assert!(is_before(1, 2) && is_before(u32::MAX, 0));
        assert!(!is_before(2, 1) && !is_before(7, 7) && !is_before(0, u32::MAX));
        assert!(!is_before(0, 1 << 31) && !is_before(1 << 31, 0));
    }
}
