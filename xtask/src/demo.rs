//! Demonstrates netwatch in a simulated internet of namespaces, on a machine that has just cloned
//! it.

use std::process::{Command, Stdio};

use netwatch_tests::addresses::*;
use netwatch_tests::{InternetShape, TestInternet};

use crate::command::root;
use crate::{Result, build, setup};

/// The scenes: title, flags, shell command.
fn scenes() -> [(&'static str, &'static str, String); 5] {
    let udp =
        format!("printf hello | socat -t1 - UDP4:{APP_V4}:{ECHO}; printf hello | socat -t1 - 'UDP6:[{APP_V6}]:{ECHO}'");
    let failing = format!("curl -m 1 http://{APP}:{REFUSED}/; curl -m 1 http://{APP}:{SILENT}/");
    [
        ("A download over HTTPS, by name", "", format!("curl -sSk -o /dev/null https://{APP}/big")),
        ("The same by IPv4 only", "", format!("curl -sSk4 https://{APP}/")),
        ("UDP, by both families", "", udp),
        ("A port that refuses and a port that never answers", "", failing),
        (
            "A program that forks, and a time limit",
            "--duration 1s",
            format!("ping -q -i 0.2 {APP} & ping -6 -q -i 0.2 {APP}; wait"),
        ),
    ]
}

/// Sets up, builds, and shows the scenes. Where namespaces are not available it shows `doctor`
/// instead.
pub fn run() -> Result {
    // The demo continues without them: the checked-in eBPF objects serve as well.
    for failure in [setup::run(), build::objects()].into_iter().filter_map(Result::err) {
        eprintln!("xtask: {failure}");
    }
    let netwatch = build::netwatch()?;
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("NETWATCH_BIN", &netwatch) };
    if let Some(why) = netwatch_tests::missing() {
        println!("$ netwatch doctor");
        let _ = Command::new(&netwatch).arg("doctor").current_dir(root()).status();
        println!("\nThe demo cannot create network namespaces: {why}. Not shown:");
        scenes().iter().for_each(|(title, ..)| println!("  {title}"));
        return Ok(());
    }
    let net = TestInternet::start(InternetShape::default());
    introduce();
    show(&net, "doctor", &["doctor"])?;
    for (title, flags, script) in scenes() {
        println!("\n\x1b[1m{title}\x1b[0m");
        let words =
            [&["run"], flags.split_whitespace().collect::<Vec<_>>().as_slice(), &["--", "sh", "-c", &script]].concat();
        show(&net, &format!("run {flags}{}-- {script}", if flags.is_empty() { "" } else { " " }), &words)?;
    }
    show_json(&net)?;
    println!("\n\x1b[1mEvery run is recorded: its firewall requirements, and the differences between two runs\x1b[0m");
    for words in [&["history"][..], &["ports", "6"], &["diff", "6", "5"]] {
        show(&net, &words.join(" "), words)?;
    }
    Ok(())
}

/// The totals and the balance of the JSON report.
fn show_json(net: &TestInternet) -> Result {
    let script = format!("curl -s -o /dev/null http://{APP}/");
    println!("\n\x1b[1mThe exact report as JSON: totals and balance\x1b[0m");
    println!(
        "\n$ sudo netwatch run -q -j -o report.json -- {script}; jq '{{totals, difference: .balance.difference}}' report.json"
    );
    let run = net.host.run(&["-q"], &["sh", "-c", &script]);
    let report = run.report.as_ref().ok_or_else(|| format!("no report: {run}"))?;
    let shown = serde_json::json!({ "totals": report["totals"], "difference": report["balance"]["difference"] });
    println!("{shown:#}");
    Ok(())
}

fn introduce() {
    println!(
        "\nA simulated internet of namespaces on this machine, removed after the demo:
  {HOST_V4}, {HOST_V6}        the host that netwatch runs on
  {APP_V4}, {APP_V6}    {APP}: HTTP, HTTPS, UDP echo; port {REFUSED} refuses, port {SILENT} never answers
  {DNS_V4}                   the host's DNS server"
    );
}

fn show(net: &TestInternet, shown: &str, words: &[&str]) -> Result {
    let sudo = if ["run", "doctor"].contains(&words[0]) { "sudo " } else { "" };
    println!("\n$ {sudo}netwatch {shown}");
    let mut command = net.host.command(net.host.binary());
    command.args(words).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    // Some scenes end with a failure on purpose.
    command.status().map(drop).map_err(|error| format!("cannot start netwatch: {error}"))
}
