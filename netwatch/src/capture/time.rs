//! Converts times of capture files to nanoseconds since the Unix epoch. Times outside the years
//! 1970 to 2554 become the first or last moment.

const SECOND_NS: i128 = 1_000_000_000;

/// The resolution of times in a pcapng file (`if_tsresol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeResolution {
    /// Powers of ten of a second.
    Decimal(u32),
    /// Powers of two of a second.
    Binary(u32),
}

impl TimeResolution {
    /// The default: microseconds.
    pub(super) const DEFAULT: Self = Self::Decimal(6);

    /// Parses the option. The high bit is set for powers of two.
    pub(super) fn new(option: u8) -> Self {
        let power = u32::from(option & 0x7f);
        if option & 0x80 == 0 { Self::Decimal(power) } else { Self::Binary(power) }
    }

    /// `offset` is in seconds.
    pub(super) fn unix_ns(self, time: u64, offset: i64) -> u64 {
        let time = i128::from(time);
        let ns = match self {
            Self::Decimal(power @ 0..=9) => time * 10_i128.pow(9 - power),
            // 2^64 has 20 digits, so finer units result in 0.
            Self::Decimal(power) => 10_i128.checked_pow(power - 9).map_or(0, |units| time / units),
            Self::Binary(power) => (time * SECOND_NS).checked_shr(power).unwrap_or(0),
        };
        clamp(ns + i128::from(offset) * SECOND_NS)
    }
}

/// Seconds, and a fraction in units of `unit_ns` nanoseconds. In broken files, fractions exceed a
/// second.
pub(super) fn unix_ns(seconds: u32, fraction: u32, unit_ns: u64) -> u64 {
    clamp(i128::from(seconds) * SECOND_NS + i128::from(fraction) * i128::from(unit_ns))
}

fn clamp(ns: i128) -> u64 {
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_every_resolution() {
        let known = [
            (6, 1_500_000, 0, 1_500_000_000),
            (9, 1_500_000_000, 0, 1_500_000_000),
            (0, 7, 0, 7_000_000_000),
            (12, 1_500_000_000_000, 0, 1_500_000_000),
            (0x80 | 10, 1536, 0, 1_500_000_000),
            (0x80 | 63, u64::MAX, 0, 1_999_999_999),
            (6, 1_500_000, -1, 500_000_000),
            (6, 1_500_000, 3600, 3_601_500_000_000),
            (6, 1, -10, 0),
            (0, u64::MAX, 0, u64::MAX),
            (0x7f, u64::MAX, 0, 0),
            (0xff, u64::MAX, 0, 0),
        ];
        for (option, time, offset, ns) in known {
            assert_eq!(TimeResolution::new(option).unix_ns(time, offset), ns, "{option:#x} {time} {offset}");
        }
    }

    #[test]
    fn accepts_fractions_over_a_second() {
        assert_eq!(unix_ns(1, 2_000_001, 1000), 3_000_001_000);
        assert_eq!(unix_ns(u32::MAX, u32::MAX, 1000), 4_294_971_589_967_295_000);
    }
}
