//! The formats of `netwatch bench` and `netwatch compare`, from made-up reports.

mod sample;

use std::net::{IpAddr, Ipv4Addr};

use netwatch::benchmark::{Analysis, RunMeasures, Side, analyze};
use netwatch::format::benchmark::{BenchmarkFormat, write};
use netwatch::report::{Facts, Report, ResourceUsage};
use sample::{START_NS, facts, key, table, tcp, v4};

/// A run that lasts this long and sends this many bytes to one endpoint.
fn report(place: u64, duration_ms: u64, sent: u64) -> Report {
    let table = table([tcp(key(6, 40_000, v4(10), 443), 20_000_000 + place, (10, sent), (12, 90_000))]);
    let facts = facts(&table, &["curl", "https://app.example/"]);
    let mut run = facts.run;
    run.id = format!("{place:08x}");
    run.started_ns = START_NS + place;
    run.duration_ns = duration_ms * 1_000_000;
    run.usage = Some(ResourceUsage { user_ns: 5_000_000 + place, system_ns: 3_000_000, memory_peak: None });
    sample::named(Facts { run, ..facts }, &table)
}

fn side(label: &str, durations_ms: &[u64], sent: u64) -> Side {
    let run = |(place, duration): (usize, &u64)| RunMeasures::of(&report(place as u64, *duration, sent));
    Side { label: label.to_owned(), runs: durations_ms.iter().enumerate().map(run).collect() }
}

fn one() -> Analysis {
    analyze(vec![side("curl 'x' | <b>", &[100, 101, 102, 103, 104, 190], 5_000)])
}

fn two() -> Analysis {
    let durations = [100, 102, 101, 103, 104, 101, 102, 103, 101, 102];
    analyze(vec![side("a", &durations, 5_000), side("=b", &durations.map(|duration| duration - 12), 5_000)])
}

fn text(analysis: &Analysis, format: BenchmarkFormat) -> String {
    let mut text = Vec::new();
    write(analysis, format, &mut text).expect("written");
    String::from_utf8(text).expect("UTF-8")
}

fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}: {text}"))
}

#[test]
fn the_text_of_a_benchmark_has_spread_outliers_and_noise() {
    let text = text(&one(), BenchmarkFormat::Text);
    assert!(text.starts_with("A: curl 'x' | <b> (6 runs)\n"), "{text}");
    let duration = line(&text, "duration ");
    for part in [" 103 ms ", "101 ms to 104 ms", "100 ms to 190 ms", "1 (run 6)"] {
        assert!(duration.contains(part), "{part}: {duration}");
    }
    assert!(line(&text, "user CPU ").contains("5.00 ms"), "{text}");
    assert!(line(&text, "bytes, ").contains(" tcp/443 ") && line(&text, "bytes, ").contains("95.0 kB"), "{text}");
    assert!(!text.contains("failed attempts"), "a metric that is 0 is left out: {text}");
    line(&text, "Noise: ");
}

#[test]
fn the_gateways_of_runs_are_one_endpoint() {
    let run = |place: u8| {
        let table =
            table([tcp(key(6, 40_000, IpAddr::V4(Ipv4Addr::new(10, 0, place, 1)), 53), 20_000_000, (1, 60), (1, 60))]);
        let mut facts = facts(&table, &["curl"]);
        facts.interface.gateway = vec![IpAddr::V4(Ipv4Addr::new(10, 0, place, 1))];
        RunMeasures::of(&sample::named(facts, &table))
    };
    let analysis = analyze(vec![Side { label: "curl".to_owned(), runs: vec![run(1), run(2), run(3)] }]);
    let printed = text(&analysis, BenchmarkFormat::Text);
    assert!(printed.contains("DNS tcp/53") && !printed.contains("10.0."), "{printed}");
}

#[test]
fn the_connect_time_of_a_name_is_that_of_all_its_addresses() {
    let to = |host, port, rtt_ms: u64, received| {
        tcp(key(6, port, v4(host), 443), rtt_ms * 1_000_000, (1, 60), (1, received))
    };
    // The address with most bytes has the fewest connections.
    let table = table([to(20, 1, 900, 90_000), to(21, 2, 10, 60), to(21, 3, 20, 60), to(22, 4, 30, 60)]);
    let mut report = sample::report(facts(&table, &["curl"]), &table);
    for known in &mut report.endpoints {
        let name = netwatch::wire::Name::of_text("app.example");
        let source = netwatch::name::NameSource::Dns;
        known.display_name = Some(netwatch::report::DisplayName { name, source });
    }
    let analysis = analyze(vec![Side { label: "curl".to_owned(), runs: vec![RunMeasures::of(&report)] }]);
    let printed = text(&analysis, BenchmarkFormat::Text);
    assert!(line(&printed, "connect p50, app.example").contains("20.0 ms"), "{printed}");
}

#[test]
fn the_verdict_of_a_comparison_is_in_words() {
    let text = text(&two(), BenchmarkFormat::Text);
    let answer = text.find("B differs from A in ").expect("an answer");
    assert!(answer < text.find("metric ").expect("a table"), "the answer is first: {text}");
    assert!(line(&text, "B differs").contains("metrics: duration 12 % ± "), "{text}");
    assert!(line(&text, "duration ").contains("12 % ± "), "{text}");
    assert!(line(&text, "duration ").ends_with("shorter"), "{text}");
    assert!(line(&text, "sent ").ends_with("equal"), "{text}");
    assert!(line(&text, "B differs from A in 1 of ").contains("metrics: "), "{text}");
    let markdown = self::text(&two(), BenchmarkFormat::Markdown);
    assert!(line(&markdown, "| duration |").ends_with("shorter |"), "{markdown}");
}

#[test]
fn the_json_has_every_value_and_the_interval() {
    let document: serde_json::Value = serde_json::from_str(&text(&two(), BenchmarkFormat::Json)).expect("JSON");
    assert_eq!((&document["schema"], &document["sides"][1]["label"]), (&1.into(), &"=b".into()));
    let duration = &document["metrics"][0];
    assert_eq!((&duration["metric"], &duration["verdict"]), (&"duration_ns".into(), &"differs".into()));
    assert_eq!(duration["difference"]["absolute"], -12_000_000);
    assert_eq!(duration["sides"][0]["values"][0], 100_000_000);
    let [low, high] = ["low", "high"].map(|key| duration["difference"][key].as_f64().expect("a number"));
    assert!((low..=high).contains(&-12e6) && high < 0.0, "{low} {high}");
    assert!(document["metrics"].as_array().expect("a list").iter().any(|row| row["metric"] == "failed_attempts"));
}

#[test]
fn the_csv_has_a_row_per_run_and_metric_and_no_formula() {
    let analysis = two();
    let csv = text(&analysis, BenchmarkFormat::Csv);
    assert_eq!(csv.lines().count(), 1 + 20 * analysis.rows.len());
    assert_eq!(line(&csv, "B,"), "B,'=b,1,00000000,2026-01-01T00:00:00.000000000Z,,duration_ns,ns,88000000");
}

#[test]
fn the_page_has_box_plots_and_no_foreign_markup() {
    let page = text(&one(), BenchmarkFormat::Html);
    assert!(
        page.contains("curl &#39;x&#39; | &lt;b&gt;") && !page.contains("<b>") && !page.contains("<script"),
        "{page}"
    );
    assert_eq!(page.matches("<svg ").count(), page.matches("<tr><th scope").count(), "a plot per metric");
    assert_eq!(page.matches("<circle ").count(), 1, "the outlier of the duration");
    assert!(page.contains("default-src 'none'"));
    let compared = text(&two(), BenchmarkFormat::Html);
    assert_eq!(compared.matches("class=\"differs\"").count(), 1, "{compared}");
    assert_eq!(compared.matches("<rect ").count(), 2 * compared.matches("<svg ").count(), "a box per side");
}
