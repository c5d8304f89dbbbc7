//! The page without a browser: its size, its data, its escaping, its policy.

use serde_json::Value;

use super::page;
use super::sample::{self, rich};

/// The JSON that the page's script reads.
fn island(page: &str) -> Value {
    let (_, rest) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(json).unwrap()
}

fn table<'a>(data: &'a Value, id: &str) -> &'a Value {
    let named = data["tables"].as_array().unwrap().iter().find(|named| named["id"] == id);
    &named.unwrap_or_else(|| panic!("no table {id}"))["table"]
}

#[test]
fn headings_name_what_a_wrapper_ran() {
    let mut report = rich::build();
    report.run.command = ["/bin/sh", "-c", "cargo build"].map(str::to_owned).to_vec();
    let shell = &mut report.processes.list[0];
    (shell.comm, shell.exe) = ("sh".into(), Some("/bin/sh".into()));
    shell.cmdline = Some(["sh", "-c", "cargo build"].map(str::to_owned).into());
    let page = page(&report);
    for tag in ["title", "h1"] {
        let (_, rest) = page.split_once(&format!("<{tag}>")).expect("a heading");
        let (heading, _) = rest.split_once("</").expect("its end");
        assert!(heading.contains("git-remote-http") && !heading.contains("sh -c"), "{heading}");
    }
}

#[test]
fn ten_thousand_flows_fit_into_three_megabytes() {
    let page = page(&rich::crawl(10_000));
    println!("{} bytes", page.len());
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    let data = island(&page);
    let flows = table(&data, "flows");
    assert_eq!(flows["length"], 10_000);
    let endpoints = &table(&data, "hosts-table")["parts"];
    assert_eq!((&endpoints["table"]["length"], endpoints["of"].as_array().unwrap().len()), (&10_000.into(), 10_000));
    assert_eq!(table(&data, "hosts-table")["length"], 3_334);
    for (column, values) in flows["columns"].as_array().unwrap().iter().zip(flows["values"].as_array().unwrap()) {
        let values = values.as_array().or(values["of"].as_array()).unwrap();
        assert_eq!(values.len(), 10_000, "{column}");
    }
}

#[test]
fn a_soak_fits_into_a_megabyte() {
    let page = page(&rich::soak(6_000));
    println!("{} bytes", page.len());
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert_eq!(table(&island(&page), "flows")["length"], 6_000);
}

#[test]
fn long_texts_do_not_make_a_long_page() {
    let page = page(&rich::with_text("x".repeat(65_536).as_bytes()));
    assert!(page.len() < 600_000, "{} bytes", page.len());
}

/// The services in a table of ports; empty without the table.
fn ports_of(page: &str, id: &str) -> Vec<String> {
    let data = island(page);
    let listed = data["tables"].as_array().unwrap().iter().find(|named| named["id"] == id);
    let texts = listed.map(|named| named["table"]["values"][1]["texts"].as_array().unwrap().clone());
    texts.into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_only_attempted_is_no_port_to_open() {
    let key = |port| sample::key(6, 40_000 + port, sample::v4(9), port);
    let (reached, refused) = (sample::tcp(key(443), 1_000, (3, 300), (3, 900)), sample::failed(key(81), 1, true));
    let page_of = |increments: Vec<_>| {
        let table = sample::table(increments);
        page(&sample::report(sample::facts(&table, &["app"]), &table))
    };
    let both = page_of(vec![reached, refused]);
    assert_eq!(
        (ports_of(&both, "ports-table"), ports_of(&both, "attempted-table")),
        (vec!["tcp/443".into()], vec!["tcp/81".into()])
    );
    let one = page_of(vec![reached]);
    assert_eq!(ports_of(&one, "attempted-table"), [""; 0]);
    assert!(both.contains("Attempted only") && !one.contains("Attempted only"));
}

#[test]
fn the_script_knows_the_columns_by_their_titles() {
    let script = include_str!("../../src/format/html/assets/waterfall.js");
    let titles = script.split_once("const FLOW = {").unwrap().1.split_once('}').unwrap().0;
    let titles: Vec<&str> = titles.split('"').skip(1).step_by(2).collect();
    assert!(titles.len() == 8, "{titles:?}");
    let data = island(&page(&rich::build()));
    let columns = table(&data, "flows")["columns"].as_array().unwrap().clone();
    assert!(titles.iter().all(|title| columns.iter().any(|column| column["title"] == *title)), "{titles:?}");
}

#[test]
fn the_island_holds_every_flow_and_every_byte() {
    let report = rich::build();
    let data = island(&page(&report));
    let flows = table(&data, "flows");
    let sum = |column: usize| {
        flows["values"][column].as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).sum::<u64>()
    };
    let sent: u64 = report.flows.iter().map(|known| known.flow.counters.egress.wire_bytes).sum();
    assert_eq!(flows["columns"][3]["title"], "Sent");
    assert_eq!(sum(3), sent);
    assert_eq!(table(&data, "intervals")["length"], report.series.intervals.len());
    let of_endpoints: usize = report.series.endpoints.iter().map(|series| series.intervals.len()).sum();
    assert_eq!(table(&data, "endpoint-intervals")["length"], of_endpoints);
    assert_eq!(table(&data, "processes")["depths"], serde_json::json!([0, 1, 2, 1]));
}

#[test]
fn text_from_the_wire_is_never_markup() {
    let page = page(&rich::hostile());
    let lower = page.to_ascii_lowercase();
    // One element each for data, script and style; nothing else ends one.
    assert_eq!(lower.matches("</script>").count(), 2);
    assert_eq!(lower.matches("</style>").count(), 1);
    let markup = page.split_once("</style>").unwrap().1.split_once("<script type=").unwrap().0;
    assert!(!markup.contains("<img") && !markup.contains('\u{2028}'), "{markup}");
    assert!(markup.contains("&lt;img src=x onerror=alert(1)&gt;"), "it is shown as text");
    let json = page.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    assert!(!json.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
    assert!(island(&page).to_string().contains("</script><img src=x onerror=alert(1)>"), "and all there");
}

#[test]
fn the_page_admits_itself_only() {
    let page = page(&rich::build());
    let policy =
        page.split_once("http-equiv=\"Content-Security-Policy\" content=\"").unwrap().1.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    let markup = page.split_once("</style>").unwrap().1.split_once("<script type=").unwrap().0;
    for outside in ["src=", "style=", "onclick=", "http:", "https:", "url("] {
        let allowed = markup
            .replace("https://app.example/", "")
            .replace("git-remote-https", "")
            .replace("https://git.example", "");
        assert!(!allowed.contains(outside), "{outside}");
    }
}

#[test]
fn readable_without_javascript() {
    let page = page(&rich::crawl(1_000));
    let markup = page.split_once("</style>").unwrap().1.split_once("<script type=").unwrap().0;
    let rows = markup.matches("<tr role=\"row\">").count();
    assert!(rows > 200, "{rows}");
    assert!(markup.contains("… and 900 more, which need JavaScript to be shown."));
    assert!(markup.contains("crawler --depth 3") && markup.contains("Balance closed"));
}

#[test]
fn a_run_that_did_nothing_and_a_capture_have_pages_too() {
    let table = netwatch::flow::FlowTable::default();
    let empty = sample::report(sample::facts(&table, &["true"]), &table);
    let text = page(&empty);
    assert!(text.contains("The program connected to no host.") && text.contains("Nothing was recorded over time."));
    let table = sample::download();
    let capture = sample::report(sample::replayed(&table, netwatch::flow::Amount::default()), &table);
    let text = page(&capture);
    assert!(text.contains("trace.pcapng") && text.contains("A capture has no processes."));
}

#[test]
fn gaps_are_listed_at_the_top() {
    use netwatch::flow::{FlowTable, Traffic};
    let mut table = FlowTable::new(1);
    for port in 1..=5 {
        let key = sample::key(17, port, [203, 0, 113, port as u8].into(), 99);
        table.apply(sample::growth(Traffic::Flow(key), (1, 90), (1, 90)));
    }
    table.apply(sample::growth(Traffic::Overflow(17), (7, 700), (0, 0)));
    let mut facts = sample::facts(&table, &["app"]);
    facts.complete = false;
    facts.lost.samples = 3;
    let report = sample::report(facts, &table);
    let others = report.endpoints.len() - 1;
    let text = page(&report);
    let (_, notes) = text.split_once("<section class=\"notes\"").unwrap();
    let notes = notes.split_once("</section>").unwrap().0;
    for gap in
        ["the run had not ended", "the flow table was full for 7 packets", "3 samples were lost", "some remotes of udp"]
    {
        assert!(notes.contains(gap) && notes.contains("<li>Incomplete: "), "{gap}: {notes}");
    }
    assert!(text.contains("<strong><a href=\"#diagnostics\">Incomplete</a></strong>"), "{text}");
    assert!(text.contains(&format!("<dt>Hosts</dt><dd><strong>{}</strong>", others + 1)), "{text}");
    let folded = format!("{} more flows are not listed", report.folded.flows);
    assert!(report.folded.flows > 1 && text.contains(&folded), "{folded}");
    assert!(!page(&rich::build()).contains("<li>Incomplete"));
}

#[test]
fn a_program_is_named_once() {
    let mut report = rich::build();
    let third = &mut report.processes.list[2];
    third.comm = "cargo".to_owned();
    report.endpoints[0].processes = (0..3).map(netwatch::process::ProcessId).collect();
    let data = island(&page(&report));
    let endpoints = table(&data, "hosts-table").to_string();
    assert!(endpoints.contains("\"cargo, git\"") && !endpoints.contains("cargo, git, cargo"), "{endpoints}");
}

#[test]
fn labels_and_targets_belong_together() {
    let page = page(&rich::build());
    let markup = page.split_once("</style>").unwrap().1.split_once("<script type=").unwrap().0;
    for (before, after) in [("href=\"#", "\""), ("aria-labelledby=\"", "\""), ("for=\"", "\"")] {
        for at in markup.match_indices(before) {
            let id = markup[at.0 + before.len()..].split_once(after).unwrap().0;
            assert_eq!(markup.matches(&format!("id=\"{id}\"")).count(), 1, "{before}{id}");
        }
    }
    assert_eq!(markup.matches("<h1>").count(), 1);
    assert_eq!(markup.matches("<table").count(), markup.matches("<caption>").count());
}
