//! `--metrics`: numbers of a run while it lasts, as Prometheus scrapes them.

use std::path::Path;
use std::process::{Child, Command};

use netwatch_tests::addresses::{HOST_V4, REFUSED};
use netwatch_tests::{Gate, RunningNetwatch, TestHost, eventually, internet, needs, wait_until};
use serde_json::Value;

const URL: &str = "http://127.0.0.1:9464/metrics";
/// Where Prometheus itself listens, in the namespace of the host.
const PROMETHEUS: &str = "127.0.0.1:9090";
/// The folder with the files for users.
const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fleet");

/// The value of a sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// The metrics, when they fulfill this condition.
#[track_caller]
fn metrics_when(host: &TestHost, expected: &str, is_met: impl Fn(&str) -> bool) -> String {
    let attempt = || match host.try_sh(&format!("curl -sS --fail {URL}")) {
        (true, text) if is_met(&text) => Ok(text),
        (_, text) => Err(text),
    };
    eventually(attempt).unwrap_or_else(|text| panic!("no metrics with {expected}:\n{text}"))
}

/// A run that has fetched a page and waits.
fn fetched(host: &TestHost, flags: &[&str]) -> (RunningNetwatch, Gate) {
    let end = host.gate();
    let script = format!("curl -s -o /dev/null http://app.example/; echo fetched; {}", end.wait());
    let mut run = host.start(flags, &["sh", "-c", &script]);
    run.wait_for_stdout("fetched");
    (run, end)
}

#[test]
fn metrics_are_those_of_the_run_and_valid() {
    needs!("promtool");
    let net = internet!();
    let (run, end) = fetched(&net.host, &["--metrics", "9464"]);
    let http = "netwatch_traffic_flows_total{process=\"curl\",service=\"http\",protocol=\"tcp\"}";
    let text = metrics_when(&net.host, http, |text| value(text, http) == Some(1.0));
    let file = net.host.dir().join("metrics");
    std::fs::write(&file, &text).expect("write the metrics");
    let checked = net.host.sh(&format!("promtool check metrics < {}", file.display()));
    assert_eq!(checked, "", "promtool has nothing to criticize in\n{text}");
    assert!(!text.contains("203.0.113.") && !text.contains("app.example"), "{text}");
    // The same samples in the other format.
    let open = net.host.sh(&format!("curl -s -H 'Accept: application/openmetrics-text; version=1.0.0' {URL}"));
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert_eq!(value(&open, http), Some(1.0), "{open}");
    end.open();
    let run = run.finish();
    let totals = &run.assert_ok().report()["totals"];
    for way in ["egress", "ingress"] {
        let exported = value(&text, &format!("netwatch_packets_total{{direction=\"{way}\"}}")).expect("a total");
        assert!(exported >= 4.0 && exported <= totals[way]["packets"].as_f64().expect("packets"), "{way}: {run}");
    }
}

#[test]
fn remotes_are_labels_only_on_request_and_failures_have_causes() {
    let net = internet!();
    let end = net.host.gate();
    let url = format!("http://app.example:{REFUSED}/");
    let script = format!("curl -s -o /dev/null http://app.example/; curl -s {url}; {}", end.wait());
    let flags = ["--metrics", "9464", "--metrics-labels", "name,port"];
    let run = net.host.start(&flags, &["sh", "-c", &script]);
    let web = "netwatch_traffic_flows_total{name=\"app.example\",port=\"80\"}";
    let refused = "netwatch_failed_attempts_total{cause=\"refused\"}";
    metrics_when(&net.host, "a connection and a refused one", |text| {
        value(text, web) == Some(1.0) && value(text, refused) >= Some(1.0)
    });
    end.open();
    run.finish().assert_ok();
}

#[test]
fn only_the_host_reaches_the_loopback_and_a_taken_port_is_an_error() {
    let net = internet!();
    let end = net.host.gate();
    // The command has its own loopback.
    let script = format!("curl -s {URL} && echo reached; echo tried; {}", end.wait());
    let mut run = net.host.start(&["--metrics", "9464"], &["sh", "-c", &script]);
    run.wait_for_stdout("tried");
    assert!(!run.stdout().contains("reached"), "{}", run.stdout());
    metrics_when(&net.host, "anything", |text| text.contains("netwatch_build_info"));
    let from_outside = format!("curl -s --max-time 5 http://{HOST_V4}:9464/metrics");
    assert!(!net.inet.try_sh(&from_outside).0, "another machine does not reach the loopback");
    let second = net.host.run(&["--metrics", "9464"], &["true"]);
    second.assert_error(125, &["serve metrics on 127.0.0.1:9464", "EADDRINUSE"]);
    end.open();
    run.finish().assert_ok();
    // The port is free again.
    net.host.run(&["--metrics", "9464"], &["true"]).assert_ok();
}

#[test]
fn another_address_is_served_on_request() {
    let net = internet!();
    let (run, end) = fetched(&net.host, &["--metrics", &format!("{HOST_V4}:9464")]);
    net.inet.wait_for(&format!("curl -s http://{HOST_V4}:9464/metrics | grep -q '^netwatch_packets_total'"));
    end.open();
    run.finish().assert_ok();
    let run = net.host.run(&["--metrics", "0"], &["true"]);
    assert!(run.assert_ok().stderr.contains("netwatch: metrics at http://127.0.0.1:"), "{run}");
}

/// Scrapers that connect, send half a request, and never read.
#[test]
fn a_stuck_scraper_delays_neither_the_run_nor_other_scrapers() {
    let net = internet!();
    let (run, end) = fetched(&net.host, &["--metrics", "9464"]);
    let stuck = net.host.inside(|| {
        let connect = |_| {
            use std::io::Write;
            let mut stream = std::net::TcpStream::connect("127.0.0.1:9464").expect("connected");
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").expect("sent");
            stream
        };
        (0..8).map(connect).collect::<Vec<_>>()
    });
    let stuck = stuck.join().expect("connected");
    metrics_when(&net.host, "numbers", |text| text.contains("netwatch_packets_total"));
    end.open();
    run.finish().assert_ok();
    drop(stuck);
}

#[test]
fn attach_serves_metrics_too() {
    let net = internet!();
    let attached = net.host.start_netwatch(&["attach", "-i", "uplink", "--no-record", "--metrics", "9464"]);
    attached.wait_for_stderr("attached to");
    net.host.sh("curl -s -o /dev/null http://app.example/");
    let packets = "netwatch_packets_total{direction=\"egress\"}";
    metrics_when(&net.host, packets, |text| value(text, packets) >= Some(4.0));
    attached.signal(libc::SIGINT);
    attached.finish().assert_ok();
}

/// A Prometheus in the namespace of the host; ended when dropped.
struct Prometheus(Child);

impl Prometheus {
    fn start(host: &TestHost) -> Self {
        let data = host.dir().join("prometheus");
        // The files for users, with a shorter interval.
        let text = std::fs::read_to_string(Path::new(FLEET).join("prometheus.yml")).expect("the configuration");
        let config = host.dir().join("prometheus.yml");
        std::fs::write(&config, text.replace("15s", "1s")).expect("write the configuration");
        std::fs::copy(Path::new(FLEET).join("alerts.yml"), host.dir().join("alerts.yml")).expect("copy the rules");
        let mut command = host.command("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", data.display()));
        command.arg(format!("--web.listen-address={PROMETHEUS}"));
        let log = std::fs::File::create(host.dir().join("prometheus.log")).expect("a log");
        Self(command.stderr(log).spawn().expect("start prometheus"))
    }

    /// The answer to a query; `None` while Prometheus does not answer.
    fn query(host: &TestHost, expression: &str) -> Option<Value> {
        let mut curl = host.command("curl");
        curl.args(["-s", "-G", &format!("http://{PROMETHEUS}/api/v1/query"), "--data-urlencode"]);
        let output = curl.arg(format!("query={expression}")).output().expect("start curl");
        serde_json::from_slice(&output.stdout).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every expression of the dashboard.
fn dashboard_expressions() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(FLEET).join("dashboard.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

#[test]
fn prometheus_scrapes_a_run_and_the_dashboard_finds_its_metrics() {
    needs!("prometheus");
    let net = internet!();
    let _prometheus = Prometheus::start(&net.host);
    let (run, end) = fetched(&net.host, &["--metrics", "9464"]);
    let first = |expression: &str| {
        let answer = Prometheus::query(&net.host, expression)?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    let log = || std::fs::read_to_string(net.host.dir().join("prometheus.log")).unwrap_or_default();
    let http = "netwatch_traffic_flows_total{process=\"curl\",service=\"http\"}";
    wait_until(|| first(http).as_deref() == Some("1"), || format!("{http} in Prometheus:\n{}", log()));
    assert_eq!(first("up{job=\"netwatch\"}").as_deref(), Some("1"));
    let expressions = dashboard_expressions();
    assert!(expressions.len() > 20, "{expressions:?}");
    for expression in expressions {
        let expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        let answer = Prometheus::query(&net.host, &expression).expect("an answer");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
    }
    end.open();
    run.finish().assert_ok();
}

/// Every metric that the dashboard and the alerts use is documented, and so exists.
#[test]
fn alerts_and_dashboard_are_valid_and_use_documented_metrics() {
    needs!("promtool");
    let checked = Command::new("promtool").args(["check", "config", "prometheus.yml"]).current_dir(FLEET).output();
    let checked = checked.expect("start promtool");
    let text = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && text.contains("6 rules found"), "{text}");
    let documented = std::fs::read_to_string(Path::new(FLEET).join("../metrics.md")).expect("the page");
    let rules = std::fs::read_to_string(Path::new(FLEET).join("alerts.yml")).expect("the rules");
    let used = dashboard_expressions().join("\n") + &rules;
    let words = used.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut metrics: Vec<&str> =
        words.filter(|word| word.starts_with("netwatch_") || word.starts_with("process_")).collect();
    metrics.sort_unstable();
    metrics.dedup();
    assert!(metrics.len() > 12, "{metrics:?}");
    for metric in metrics {
        let name =
            ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric);
        assert!(documented.contains(&format!("`{name}`")), "docs/metrics.md does not list {name}");
    }
}
