//! Numbers for people: three significant digits and decimal units (1 kB is 1000 bytes, as links are
//! rated). The JSON document has exact numbers.

use super::text::NO_BREAK;

/// `0 B`, `999 B`, `1.23 kB`, `12.3 MB`.
pub(crate) fn bytes(value: u64) -> String {
    const STEPS: [(u64, &str); 6] = [
        (1_000, "kB"),
        (1_000_000, "MB"),
        (1_000_000_000, "GB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000_000_000, "PB"),
        (1_000_000_000_000_000_000, "EB"),
    ];
    if value < 1_000 { format!("{value} B") } else { three_digits(value, &STEPS) }
}

/// `850 ns`, `12.3 ms`, `1.24 s`, `2 min 03 s`, `26 h 05 min`.
pub(crate) fn duration(ns: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")];
    let seconds = ns / 1_000_000_000;
    match seconds {
        0..60 if ns < 1_000 => format!("{ns} ns"),
        0..60 => three_digits(ns, &STEPS),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `12,345`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Like [`count`], but `1.15 G` from a thousand million on, so that columns stay narrow.
pub(in crate::format) fn packets(value: u64) -> String {
    const STEPS: [(u64, &str); 4] = [
        (1_000_000_000, "G"),
        (1_000_000_000_000, "T"),
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000_000_000, "E"),
    ];
    if value < 1_000_000_000 { count(value) } else { three_digits(value, &STEPS) }
}

/// `+12,345`, `-1`, `0`.
pub(in crate::format) fn signed(value: i64) -> String {
    let sign = if value < 0 {
        "-"
    } else if value > 0 {
        "+"
    } else {
        ""
    };
    format!("{sign}{}", count(value.unsigned_abs()))
}

/// `1 flow`, `2 flows`; number and word stay on one line.
pub(crate) fn plural(value: u64, one: &str, many: &str) -> String {
    format!("{}{NO_BREAK}{}", count(value), if value == 1 { one } else { many })
}

/// The first unit in which the rounded value is below 1000, otherwise the last one.
fn three_digits(value: u64, steps: &[(u64, &str)]) -> String {
    let rounded =
        |divisor: u64, scale: u128| (u128::from(value) * scale + u128::from(divisor) / 2) / u128::from(divisor);
    let fits = steps.iter().find(|(divisor, _)| rounded(*divisor, 1) < 1_000);
    let Some((divisor, unit)) = fits.or(steps.last()) else { return value.to_string() };
    let (hundredths, tenths) = (rounded(*divisor, 100), rounded(*divisor, 10));
    if hundredths < 1_000 {
        format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
    } else if tenths < 1_000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", rounded(*divisor, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_and_never_a_thousand_of_a_unit() {
        let known = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (9_995, "10.0 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (value, text) in known {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn durations_from_nanoseconds_to_days() {
        let known = [
            (850, "850 ns"),
            (42_000, "42.0 µs"),
            (999_600, "1.00 ms"),
            (1_240_000_000, "1.24 s"),
            (59_990_000_000, "60.0 s"),
            (123_000_000_000, "2 min 03 s"),
            (93_900_000_000_000, "26 h 05 min"),
        ];
        for (ns, text) in known {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn counts_are_grouped_and_signed() {
        assert_eq!(
            (count(0), count(999), count(1_000), count(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!((packets(999_999_999), packets(1_150_000_000)), ("999,999,999".into(), "1.15 G".into()));
        assert_eq!((signed(0), signed(3), signed(-1_000)), ("0".into(), "+3".into(), "-1,000".into()));
    }
}
