//! Distributions of times: a table with bars, a row per bin (1, 2, 5, 10 …).

use std::fmt::Write;

use super::table::bar;
use crate::format::summary::units::{count, duration};
use crate::report::Report;

/// Times of TCP handshakes, one per flow.
pub(super) fn handshake_times(report: &Report) -> String {
    let times = report.flows.iter().filter_map(|known| known.flow.tcp?.handshake_rtt_ns).collect();
    html(
        "handshake-times",
        "Handshake time",
        "from SYN to SYN-ACK, or from SYN-ACK to ACK of incoming connections; one per flow",
        times,
    )
}

/// Round-trip times from data to its acknowledgement, the mean of each flow.
pub(super) fn round_trips(report: &Report) -> String {
    let times = report.flows.iter().filter_map(|known| known.flow.tcp?.round_trips.mean_ns()).collect();
    html(
        "round-trips",
        "Round trip",
        "from data to its acknowledgement, measured about once a second; the mean of each flow",
        times,
    )
}

fn html(id: &str, title: &str, means: &str, mut times: Vec<u64>) -> String {
    let head = format!(
        "<section class=\"distribution\" id=\"{id}\" aria-labelledby=\"{id}-h\"><h3 id=\"{id}-h\">{title}</h3><p class=\"means\">{means}</p>\n"
    );
    times.sort_unstable();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return head + "<p class=\"nothing\">No measurements.</p></section>\n";
    };
    let mut html = head + "<dl class=\"figures small\">";
    let figures = [
        ("measured", count(times.len() as u64)),
        ("min", duration(*first)),
        ("median", duration(quantile(&times, 50))),
        ("p90", duration(quantile(&times, 90))),
        ("p99", duration(quantile(&times, 99))),
        ("max", duration(*last)),
    ];
    for (name, value) in figures {
        let _ = write!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    let _ = write!(html, "</dl><div class=\"scroll\"><table class=\"bins\"><caption>{title}: flows by time</caption>");
    html += "<thead><tr><th scope=\"col\">Time</th><th scope=\"col\">Part</th><th scope=\"col\" class=\"number\">Flows</th></tr></thead><tbody>\n";
    let bins = bins(&times);
    let most = bins.iter().map(|(_, _, number)| *number).max().unwrap_or(1);
    for (from, to, number) in bins {
        let tenths = number * 1_000 / most;
        let bar = bar(&format!("{}.{}%", tenths / 10, tenths % 10));
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{} – {}</th><td>{bar}</td><td class=\"number\">{}</td></tr>",
            edge(from),
            edge(to),
            count(number)
        );
    }
    html + "</tbody></table></div></section>\n"
}

/// The smallest of the sorted values that at least `percent` do not exceed (nearest rank).
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// Start, end (exclusive) and number of values of each bin, from the first to the last with any.
fn bins(sorted: &[u64]) -> Vec<(u64, u64, u64)> {
    let mut bins = Vec::new();
    let mut at = 0;
    for (from, to) in edges() {
        let number = sorted[at..].partition_point(|time| *time < to);
        at += number;
        if number > 0 || (at > 0 && at < sorted.len()) {
            bins.push((from, to, number as u64));
        }
        if at == sorted.len() {
            break;
        }
    }
    bins
}

/// 0–1, 1–2, 2–5, 5–10 … to the end of 64 bits.
fn edges() -> impl Iterator<Item = (u64, u64)> {
    let uppers =
        (0..20).flat_map(|power| [1, 2, 5].map(|digit: u64| digit.saturating_mul(10_u64.saturating_pow(power))));
    let uppers: Vec<u64> = uppers.take_while(|upper| *upper < u64::MAX).chain([u64::MAX]).collect();
    let lowers: Vec<u64> = std::iter::once(0).chain(uppers.iter().copied()).collect();
    lowers.into_iter().zip(uppers)
}

/// `500 µs`, without decimals.
fn edge(ns: u64) -> String {
    let steps = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    let fits = steps.iter().find(|(divisor, _)| ns >= *divisor && ns.is_multiple_of(*divisor));
    fits.map_or_else(|| format!("{ns} ns"), |(divisor, unit)| format!("{} {unit}", ns / divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bin() {
        assert_eq!(
            bins(&[1_500_000, 1_999_999, 2_000_000, 12_000_000]),
            [
                (1_000_000, 2_000_000, 2),
                (2_000_000, 5_000_000, 1),
                (5_000_000, 10_000_000, 0),
                (10_000_000, 20_000_000, 1)
            ]
        );
        assert_eq!(bins(&[0]), [(0, 1, 1)]);
        assert_eq!(bins(&[u64::MAX - 1]).len(), 1);
    }

    #[test]
    fn quantiles_are_measured_values() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&hundred, 50), quantile(&hundred, 99), quantile(&[7], 90)), (50, 99, 7));
    }

    #[test]
    fn edges_are_short() {
        assert_eq!(
            (edge(0), edge(500), edge(2_000), edge(50_000_000)),
            ("0 ns".into(), "500 ns".into(), "2 µs".into(), "50 ms".into())
        );
    }
}
