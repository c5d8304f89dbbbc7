//! netwatch at work in a small internet of namespaces, for somebody who has just cloned it.

use std::process::{Command, Stdio};

use netwatch_tests::addresses::*;
use netwatch_tests::{Internet, Shape};

use crate::command::root;
use crate::{Result, programs, setup};

/// What is shown: a sentence, flags, a shell command.
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

/// Sets up, builds and shows; where it cannot, shows `doctor` and says what it could not do.
pub fn run() -> Result {
    let could_not: Vec<String> =
        [setup::run(), crate::build_object()].into_iter().filter_map(std::result::Result::err).collect();
    for failure in &could_not {
        eprintln!("could not: {failure}");
    }
    // The checked-in object is there also where it cannot be built from source.
    let netwatch = programs::netwatch()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("NETWATCH_BIN", &netwatch) };
    if let Some(why) = netwatch_tests::missing() {
        println!("$ netwatch doctor");
        let _ = Command::new(&netwatch).arg("doctor").current_dir(root()).status();
        println!("\nThe demo needs namespaces of its own, and could not make them: {why}. Not shown:");
        scenes().iter().for_each(|(title, ..)| println!("  {title}"));
        return Ok(());
    }
    let net = Internet::start(Shape::default());
    introduce();
    show(&net, "doctor", &["doctor"])?;
    for (title, flags, script) in scenes() {
        println!("\n\x1b[1m{title}\x1b[0m");
        let words =
            [&["run"], flags.split_whitespace().collect::<Vec<_>>().as_slice(), &["--", "sh", "-c", &script]].concat();
        show(&net, &format!("run {flags}{}-- {script}", if flags.is_empty() { "" } else { " " }), &words)?;
    }
    show_json(&net)?;
    println!("\n\x1b[1mEvery run was kept: what it needs, as rules and as a page; what differs from another\x1b[0m");
    for words in [&["history"][..], &["report", "--format", "ports", "6"], &["diff", "6", "5"]] {
        show(&net, &words.join(" "), words)?;
    }
    Ok(())
}

/// Of the whole document, the part that no other tool can give.
fn show_json(net: &Internet) -> Result {
    let script = format!("curl -s -o /dev/null http://{APP}/");
    println!("\n\x1b[1mThe exact answer as JSON: totals and balance\x1b[0m");
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
        "\nA small internet of namespaces, all on this machine and gone after the demo:
  {HOST_V4}, {HOST_V6}        the host that netwatch runs on
  {APP_V4}, {APP_V6}    {APP}: HTTP, HTTPS, UDP echo; port {REFUSED} refuses, port {SILENT} never answers
  {DNS_V4}                   the host's DNS server"
    );
}

fn show(net: &Internet, shown: &str, words: &[&str]) -> Result {
    let sudo = if ["run", "doctor"].contains(&words[0]) { "sudo " } else { "" };
    println!("\n$ {sudo}netwatch {shown}");
    let mut command = net.host.command(net.host.binary());
    command.args(words).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    // A command that fails is part of the show.
    command.status().map(drop).map_err(|error| format!("cannot start netwatch: {error}"))
}
