//! The commands of docs/tutorial.md, in their order.

use std::path::Path;

use netwatch_tests::{binary, internet};

/// The `sh` blocks of the page.
fn commands(page: &str) -> String {
    let mut commands = String::new();
    let mut is_command = false;
    for line in page.lines() {
        match line {
            "```sh" => is_command = true,
            "```" => is_command = false,
            line if is_command => commands.extend([line, "\n"]),
            _ => {}
        }
    }
    commands
}

#[test]
fn the_commands_of_the_tutorial_work_as_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial.md");
    let commands = commands(&std::fs::read_to_string(page).unwrap());
    assert!(commands.contains("ip netns add lab") && commands.contains("netwatch ports"), "{commands}");
    let net = internet!();
    let netwatch = format!("netwatch() {{ {} \"$@\"; }}\n", binary().display());
    let shown = net.host.sh(&(netwatch + &commands));
    for expected in [
        "2 endpoints, 2 connections",
        "app.example  tcp/80 http ",
        "verified   every packet counted, nothing lost",
        "Network access required by curl",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let (is_left, links) = net.host.try_sh("ip link show lab0; nft list ruleset; ip netns list");
    assert!(!is_left || !links.contains("lab"), "{links}");
}
