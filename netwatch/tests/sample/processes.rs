//! Made-up processes: a shell and the downloads that it runs.

use netwatch::flow::{FlowKey, FlowTable, Protocol};
use netwatch::process::{
    Attempt, AttemptCause, AttemptTarget, Attribution, Evidence, FlowUser, FlowUsers, LocalSocket, Process, ProcessId,
    ProcessLosses, Processes,
};

use super::START_NS;

const SHELL: ProcessId = ProcessId(0);
const CURL: ProcessId = ProcessId(1);
const HELPER: ProcessId = ProcessId(2);

/// The shell is the command; one of its children was gone before its arguments were read.
pub fn processes() -> Processes {
    let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    let shell = Process {
        number: 0,
        pid: 4242,
        start_ns: START_NS,
        ppid: 4241,
        parent: None,
        comm: "sh".to_owned(),
        exe: Some("/usr/bin/dash".to_owned()),
        cmdline: words(&["sh", "-c", "curl -sS https://app.example/ https://v6.example/ & helper"]),
        cmdline_cut: false,
        uid: Some(1000),
    };
    let curl = Process {
        number: 1,
        pid: 4243,
        start_ns: START_NS + 1_000_000,
        ppid: 4242,
        parent: Some(SHELL),
        comm: "curl".to_owned(),
        exe: Some("/usr/bin/curl".to_owned()),
        cmdline: words(&["curl", "-sS", "https://app.example/", "https://v6.example/"]),
        cmdline_cut: true,
        uid: Some(1000),
    };
    let helper = Process {
        number: 2,
        pid: 4244,
        comm: "helper".to_owned(),
        exe: None,
        cmdline: None,
        uid: None,
        ..curl.clone()
    };
    let peer = LocalSocket {
        path: "/run/docker.sock".to_owned(),
        connections: 3,
        failed: 1,
        missing: 1,
        processes: vec![HELPER],
    };
    let lost = ProcessLosses { gone: 1, ..ProcessLosses::default() };
    Processes { attribution: Attribution::On, list: vec![shell, curl, helper], local_sockets: vec![peer], lost }
}

/// TCP flows belong to curl, by their socket. One port belongs to the helper, whose socket curl
/// created. The process of all other flows is not known.
pub fn users(table: &FlowTable) -> FlowUsers {
    let user = |process, evidence, is_maker| FlowUser { process, evidence, is_maker };
    let of = |key: &FlowKey| match (key.protocol, key.local.port) {
        (6, 40_002) => vec![user(HELPER, Evidence::Socket, false), user(CURL, Evidence::Socket, true)],
        (6, _) => vec![user(CURL, Evidence::Socket, true)],
        (17, 50_001) => vec![user(CURL, Evidence::Tuple, false)],
        (17, 50_002) => vec![user(SHELL, Evidence::Netns, false)],
        _ => vec![],
    };
    table.iter().map(|flow| (flow.key, of(&flow.key))).filter(|(_, users)| !users.is_empty()).collect()
}

/// One of each kind that packets and DNS do not tell of.
pub fn attempts() -> Vec<Attempt> {
    let attempt = |target, protocol, cause, process| Attempt {
        first_ns: START_NS + 2_000_000,
        last_ns: START_NS + 3_000_000,
        count: 2,
        packets: 0,
        target,
        protocol,
        cause,
        process,
    };
    let address = |text: &str| AttemptTarget::Address(text.parse().unwrap());
    vec![
        attempt(address("[2001:db8::9]:443"), Some(Protocol::TCP), AttemptCause::Errno(101), Some(CURL)),
        attempt(address("[::]:0"), Some(Protocol::UDP), AttemptCause::Errno(97), Some(CURL)),
        attempt(address("198.51.100.9:443"), Some(Protocol::TCP), AttemptCause::NoPacket, Some(CURL)),
        attempt(AttemptTarget::LocalSocket("/run/docker.sock".to_owned()), None, AttemptCause::Errno(13), Some(HELPER)),
    ]
}
