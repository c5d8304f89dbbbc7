//! Snapshots of everything on a host that netwatch could leave changed, taken before a run and
//! compared after it.

use std::collections::BTreeSet;

use crate::host::TestHost;

/// Prints one `section: line` for each fact. Facts that change by themselves (counters, lifetimes,
/// caches) are omitted.
const CAPTURE: &str = r#"
    section() { sed "s|^|$1: |"; }
    ip -o link show | section link
    ip -br addr show | section address
    for family in -4 -6; do
        ip $family route show table all | sed 's/ expires [0-9]*sec//' | section "route $family"
        ip $family rule show | section "rule $family"
    done
    nft -s list ruleset | section nft
    grep -rsH . /proc/sys/net/ipv4 /proc/sys/net/ipv6 | section sysctl
    find /run /etc/netns /etc/resolv.conf -printf '%M %u %p %l\n' 2>/dev/null | section file
    md5sum /etc/resolv.conf /etc/nsswitch.conf /etc/hosts 2>/dev/null | section content
    cut -d' ' -f5- /proc/self/mountinfo | sed 's/ \(master\|shared\):[0-9]*//g' | section mount
"#;

/// The facts of a host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSnapshot {
    facts: BTreeSet<String>,
}

impl HostSnapshot {
    pub(crate) fn capture(host: &TestHost) -> Self {
        // Listed before the shell for the other facts is started.
        let processes = host.processes().into_iter().map(|pid| format!("process: {pid} {}", command_line(pid)));
        let cgroups = host.cgroups().unwrap_or_default().into_iter().map(|path| format!("cgroup: {}", path.display()));
        let mut facts: BTreeSet<String> = processes.chain(cgroups).collect();
        facts.extend(host.sh(CAPTURE).lines().filter(|line| !is_volatile(line)).map(str::to_owned));
        Self { facts }
    }

    /// An error with the facts that are new or missing in `after`.
    pub fn compare(&self, after: &Self) -> Result<(), String> {
        let new = after.facts.difference(&self.facts).map(|fact| format!("+ {fact}\n"));
        let gone = self.facts.difference(&after.facts).map(|fact| format!("- {fact}\n"));
        let all: String = new.chain(gone).collect();
        if all.is_empty() { Ok(()) } else { Err(all) }
    }
}

/// The run directory and its lock file are kept, empty, after the first run.
fn is_volatile(fact: &str) -> bool {
    let stays = [" /run/netwatch ", " /run/netwatch/lock "];
    fact.starts_with("file: ") && stays.iter().any(|path| format!("{fact} ").contains(path))
}

fn command_line(pid: i32) -> String {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&text).replace('\0', " ")
}
