//! Times, sizes and counts as typed on the command line. Errors are phrases for clap, which names
//! the flag and the value.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::{HostPorts, LineTarget, Linger, StatusStyle};
use crate::error::{self, Error};

/// Maximum of every time that can be set: ten years. Far below what the clock's type can represent,
/// so that adding it to the current time cannot overflow.
pub const MAX_TIME: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Maximum number of ports of `--host-loopback`: each has up to four sockets.
const MAX_HOST_PORTS: usize = 32;

/// A time: `30s`, `5m`, `1h30m`, `250ms`, or plain seconds. Thresholds accept the same, except
/// plain seconds.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|error| format!("{error} (examples: 30s, 5m, 1h30m)"))?,
    };
    if time > MAX_TIME {
        return Err("the maximum is 3650d (ten years)".to_owned());
    }
    Ok(time)
}

/// The time of `--report-every`: at least a second, at whose end the series grows.
pub fn parse_report_interval(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_secs(1) { Err("the minimum is 1s".to_owned()) } else { Ok(time) }
}

/// The time of `--idle-timeout`: at least a second, because the kernel's table is read about once a
/// second.
pub fn parse_idle_timeout(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time < Duration::from_secs(1) { Err("the minimum is 1s".to_owned()) } else { Ok(time) }
}

/// Whether the report of a run is JSON: by `-j`, else by the extension of the file of `-o`.
/// Without `-j`, an extension of neither JSON nor text is an error: a summary in `page.html` would
/// surprise.
pub fn is_json_report(file: Option<&Path>, flag: bool) -> error::Result<bool> {
    const OF_REPORT: [&str; 8] = ["html", "htm", "md", "markdown", "csv", "ndjson", "jsonl", "nft"];
    const OF_EXPORT: [&str; 4] = ["parquet", "xlsx", "sqlite", "db"];
    let Some(file) = file.filter(|_| !flag) else { return Ok(flag) };
    let shown = file.display();
    let (cause, hint) = match extension(file).as_str() {
        "json" => return Ok(true),
        other if other.is_empty() || TEXT.contains(&other) => return Ok(false),
        other if OF_REPORT.contains(&other) => (ONLY.to_owned(), format!("after the run: netwatch report -o {shown}")),
        other if OF_EXPORT.contains(&other) => (ONLY.to_owned(), format!("after the run: netwatch export -o {shown}")),
        "pcap" | "pcapng" => (ONLY.to_owned(), "packets are written by -w".to_owned()),
        other => {
            (format!("no format has the extension .{other}"), "use .txt for text; .json or -j for JSON".to_owned())
        }
    };
    Err(Error::other("write", shown.to_string(), cause).hint(hint))
}

/// What `-o` of a run writes.
const ONLY: &str = "here is only text or JSON (.json)";

/// Extensions of text.
pub const TEXT: [&str; 4] = ["txt", "text", "log", "out"];

/// The format that the extension of a file name stands for, among these formats with theirs; `None`
/// without an extension. Another one is an error: text in `report.pdf` would surprise.
pub fn format_of_file<T: Copy>(path: &Path, known: &[(&[&str], T)]) -> error::Result<Option<T>> {
    let extension = extension(path);
    if extension.is_empty() {
        return Ok(None);
    }
    let found = known.iter().find(|(extensions, _)| extensions.contains(&extension.as_str()));
    found.map(|(_, format)| Some(*format)).ok_or_else(|| {
        let mut names: Vec<String> = known.iter().map(|(extensions, _)| format!(".{}", extensions[0])).collect();
        let last = names.pop().unwrap_or_default();
        let listed = if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) };
        Error::other("write", path.display().to_string(), format!("no format has the extension .{extension}"))
            .hint(format!("name the format with --format, or use {listed}"))
    })
}

/// The extension of a file in lower case, which decides on a format; empty without one. Numbers and
/// dates (`run.1`) are none, nor are words that are longer than every extension, as in the names of
/// mktemp(1).
pub fn extension(path: &Path) -> String {
    const MAX_BYTES: usize = 8;
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let is_number = extension.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_number || extension.len() > MAX_BYTES { String::new() } else { extension }
}

/// The time of `--linger`: a time, or `forever`.
pub fn parse_linger(text: &str) -> Result<Linger, String> {
    if text == "forever" { Ok(Linger::Forever) } else { parse_time(text).map(Linger::For) }
}

/// Where `--packets` prints: a file, or standard error for `-` and for the values that turn a flag
/// on in the environment. `None` for those that turn it off.
pub fn parse_line_target(text: &str) -> Option<LineTarget> {
    match text {
        "" | "0" | "false" | "no" | "off" => None,
        "-" | "1" | "true" | "yes" | "on" => Some(LineTarget::StandardError),
        file => Some(LineTarget::File(file.into())),
    }
}

/// Interval of `--status=json` without a time.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// The value of `--status`: `line`, `off`, `json`, or `json:` with a time of at least a second, the
/// interval at which the counters are read.
pub fn parse_status(text: &str) -> Result<StatusStyle, String> {
    match text.split_once(':') {
        None if text == "line" => Ok(StatusStyle::Line),
        None if text == "off" => Ok(StatusStyle::Off),
        None if text == "json" => Ok(StatusStyle::Json(STATUS_INTERVAL)),
        Some(("json", time)) => match parse_time(time)? {
            time if time < Duration::from_secs(1) => Err("the minimum is json:1s".to_owned()),
            time => Ok(StatusStyle::Json(time)),
        },
        _ => Err("expected line, json, json:TIME or off".to_owned()),
    }
}

/// The ports of `--host-loopback`: `all`, or a list.
pub fn parse_host_ports(text: &str) -> Result<HostPorts, String> {
    if text == "all" {
        return Ok(HostPorts::All);
    }
    let port = |word: &str| word.trim().parse().ok().filter(|port| *port != 0);
    let ports: Option<Vec<u16>> = text.split(',').map(port).collect();
    let ports = ports.ok_or("expected `all`, or port numbers separated by commas: 5432,6379")?;
    if ports.len() > MAX_HOST_PORTS {
        Err(format!("at most {MAX_HOST_PORTS} ports"))
    } else {
        Ok(HostPorts::Listed(ports))
    }
}

/// The value of `--metrics`: a port of the loopback, or an address with a port.
pub fn parse_metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| "expected PORT, ADDR:PORT or [ADDR]:PORT with an IP address".to_owned())
}

/// A size in bytes, or with a binary unit: `4096`, `64K`, `512M`, `1GiB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let invalid = || "expected bytes, or a number with a unit: 64K, 512M, 1G".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(invalid()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(invalid)
}

/// The size of `--otlp-spool-size`: at least that of a request with a thousand records.
pub fn parse_spool_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes < 1 << 20 => Err("the minimum is 1M".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The size of `-C`.
pub fn parse_file_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("the minimum is 1; without -C there is one file".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The time of `-G`.
pub fn parse_file_time(text: &str) -> Result<Duration, String> {
    let time = parse_time(text)?;
    if time.is_zero() { Err("it must be longer than 0; without -G there is one file".to_owned()) } else { Ok(time) }
}

/// The number of recordings to keep, at least 1.
pub fn parse_keep(text: &str) -> Result<usize, String> {
    let runs = text.parse().ok().filter(|runs| *runs > 0);
    runs.ok_or_else(|| "expected a number, at least 1; --no-record turns recording off".to_owned())
}

/// The size of a ring buffer in KiB: a power of two and at least a page, as the kernel requires.
pub fn parse_ring_kib(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(kib) if kib.is_power_of_two() && (4..=1 << 20).contains(&kib) => Ok(kib),
        _ => Err("expected a power of two from 4 to 1048576".to_owned()),
    }
}

/// The size of the ring of a capture in KiB: a power of two with room for the longest packets.
pub fn parse_capture_kib(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(kib) if kib.is_power_of_two() && (512..=1 << 20).contains(&kib) => Ok(kib),
        _ => Err("expected a power of two from 512 to 1048576".to_owned()),
    }
}

/// The ratio of `diff --threshold`, at least 1.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio >= 1.0 => Ok(ratio),
        _ => Err("expected a number, at least 1".to_owned()),
    }
}

/// A user name as useradd(8) allows it, or a uid. It is copied into a firewall rule, so nothing
/// else is accepted.
pub fn parse_user(text: &str) -> Result<String, String> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let is_valid = is_word && !text.is_empty() && !text.starts_with('-') && text.len() <= 32;
    if is_valid { Ok(text.to_owned()) } else { Err("expected a user name or a uid".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_line_or_json_at_intervals() {
        let json = |seconds| Ok(StatusStyle::Json(Duration::from_secs(seconds)));
        assert_eq!(["line", "off"].map(parse_status), [Ok(StatusStyle::Line), Ok(StatusStyle::Off)]);
        assert_eq!(["json", "json:30", "json:2m"].map(parse_status), [json(10), json(30), json(120)]);
        assert!(["json:0", "json:500ms", "json:", "text", "line:3", ""].iter().all(|text| parse_status(text).is_err()));
    }

    #[test]
    fn parses_times() {
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_time("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_time("soon").is_err());
        assert_eq!(parse_linger("forever"), Ok(Linger::Forever));
        assert_eq!(parse_linger("1m"), Ok(Linger::For(Duration::from_secs(60))));
    }

    /// Adding `u64::MAX` seconds to an `Instant` panics.
    #[test]
    fn rejects_times_beyond_the_maximum() {
        assert_eq!(parse_time("3650d"), Ok(MAX_TIME));
        for text in ["18446744073709551615", "18446744073709551615s", "3651d", "315360001", "11y", "584942417355y"] {
            let error = parse_time(text).expect_err(text);
            assert!(error.contains("3650d") || error.contains("large"), "{text}: {error}");
            assert!(parse_linger(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parses_ports_of_the_host() {
        assert_eq!(parse_host_ports("all"), Ok(HostPorts::All));
        assert_eq!(parse_host_ports("5432, 6379"), Ok(HostPorts::Listed(vec![5432, 6379])));
        let many = vec!["1"; MAX_HOST_PORTS + 1].join(",");
        for invalid in ["", "0", "65536", "1,", "http", "80-90", &many] {
            assert!(parse_host_ports(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn the_report_of_a_run_is_text_or_json() {
        let of = |name: &str, flag| is_json_report(Some(Path::new(name)), flag);
        for text in ["report", "report.txt", "a.LOG", "/dev/fd/3", "run.1", "json", "/tmp/tmp.Ab3dE5fG7h"] {
            assert!(!of(text, false).expect(text), "{text}");
        }
        assert!(of("a.JSON", false).expect("known"));
        assert!(!is_json_report(None, false).expect("no file") && is_json_report(None, true).expect("no file"));
        for (invalid, hint) in [
            ("page.html", "netwatch report -o page.html"),
            ("x.MD", "netwatch report"),
            ("x.xlsx", "netwatch export"),
            ("x.pcapng", "-w"),
            ("x.pdf", "use .txt for text"),
        ] {
            assert!(of(invalid, false).expect_err(invalid).to_string().contains(hint), "{invalid}");
            assert!(of(invalid, true).expect("the flag names the format"), "{invalid}");
        }
    }

    #[test]
    fn an_extension_names_a_format_or_is_refused() {
        let of =
            |name: &str| format_of_file(Path::new(name), &[(&TEXT, 'x'), (&["md", "markdown"], 'm'), (&["csv"], 'c')]);
        for (name, format) in [("a", None), ("a.TXT", Some('x')), ("a.b.markdown", Some('m')), ("a.2026-01-02", None)] {
            assert_eq!(of(name).expect("known"), format, "{name}");
        }
        let error = of("a.pdf").expect_err("unknown").to_string();
        assert!(error.contains("a.pdf: no format has the extension .pdf"), "{error}");
        assert!(error.ends_with("name the format with --format, or use .txt, .md or .csv"), "{error}");
    }

    #[test]
    fn parses_sizes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64K", 65_536), ("512M", 512 << 20), ("1GiB", 1 << 30), ("2gb", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for invalid in ["", "M", "1.5G", "-1", "1X", "99999999999T"] {
            assert!(parse_size(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn ring_sizes_are_powers_of_two() {
        assert_eq!(parse_ring_kib("2048"), Ok(2048));
        for invalid in ["0", "3", "2", "2097152", "much"] {
            assert!(parse_ring_kib(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn users_are_words() {
        for valid in ["root", "_apt", "4242", "first.last", "a-b"] {
            assert_eq!(parse_user(valid).as_deref(), Ok(valid));
        }
        for invalid in ["", "-j", "a b", "a;b", "a\"b", "$(x)"] {
            assert!(parse_user(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_port_alone_is_one_of_the_loopback() {
        let parse = |text| parse_metrics_address(text).map(|address| address.to_string());
        assert_eq!(parse("9464").as_deref(), Ok("127.0.0.1:9464"));
        assert_eq!(parse("0.0.0.0:9464").as_deref(), Ok("0.0.0.0:9464"));
        assert_eq!(parse("[::1]:0").as_deref(), Ok("[::1]:0"));
        for wrong in ["", ":9464", "65536", "app.example:80", "::1", "9464/metrics"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
