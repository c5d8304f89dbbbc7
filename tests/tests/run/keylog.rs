//! `--keylog`: a capture that decrypts by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use netwatch_tests::{StartOptions, TestHost, USER, USER_ID, internet, needs, wait_until};

use crate::clients::Http3;

/// What tshark decrypts in a file: request paths of HTTP.
fn decrypted(host: &TestHost, file: &str) -> String {
    host.sh(&format!("tshark -r {file} -T fields -e http.request.uri -e http2.headers.path 2>/dev/null"))
}

#[test]
fn tshark_decrypts_the_file() {
    let net = internet!();
    needs!("tshark");
    let script = "ls -l $SSLKEYLOGFILE; curl -sk https://app.example/one; curl -sk --http1.1 https://app.example/two;
        curl -sk --tls-max 1.2 https://app.example/three";
    let id = USER_ID.to_string();
    let sudo = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    let file = net.host.dir().join("home/x.pcapng");
    let path = file.to_str().expect("UTF-8");
    let run = net.host.netwatch_with(sudo, &["run", "-q", "--keylog", "-w", path, "--", "sh", "-c", script]);
    assert!(run.assert_ok().stdout.starts_with(&format!("-rw------- 1 {USER} ")), "{run}");
    assert!(run.stderr.contains("will contain the keys of TLS connections"), "{run}");
    assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(!net.host.try_sh("ls /run/netwatch/????????/keys").0, "the key log is gone");
    net.host.netwatch(&["replay", "-q", "-w", "copy.pcapng", path]).assert_ok();
    for file in [path, "copy.pcapng"] {
        let text = decrypted(&net.host, file);
        for wanted in ["/one", "/two", "/three"] {
            assert!(text.contains(wanted), "{file}: {wanted}: {text}");
        }
    }
}

/// Frames of streams are only in packets that are decrypted.
#[test]
fn tshark_decrypts_quic() {
    let net = internet!();
    needs!("tshark");
    let Some(http3) = Http3::start(&net) else { return };
    let flags = ["run", "-q", "--keylog", "-w", "x.pcapng", "--"];
    net.host.netwatch(&[&flags[..], &http3.client()].concat()).assert_ok();
    let streams =
        net.host.sh("tshark -r x.pcapng -Y quic.stream.stream_id -T fields -e ip.src -e ipv6.src 2>/dev/null");
    assert!(streams.lines().count() >= 2, "frames of both directions: {streams}");
}

/// The run writes no file of its own; a tail receives the keys from its start on.
#[test]
fn what_a_tail_writes_decrypts() {
    let net = internet!();
    needs!("tshark");
    let gate = net.host.gate();
    let script = format!(
        "curl -sk https://app.example/early -o /dev/null; echo ready
        until [ -e {} ]; do curl -sk https://app.example/late -o /dev/null; done",
        gate.path()
    );
    let mut run = net.host.start(&["-q", "--keylog"], &["sh", "-c", &script]);
    run.wait_for_stdout("ready");
    let tail = net.host.start_netwatch(&["tail", "--keylog", "-w", "x.pcapng", "--filter", "tcp port 443"]);
    let refused = net.host.netwatch(&["tail", "--keylog", "-w", "x.pcap"]);
    refused.assert_error(2, &["write keys to x.pcap", "pcap cannot contain them"]);
    let size = || net.host.dir().join("x.pcapng").metadata().map_or(0, |about| about.len());
    wait_until(|| size() > 100_000, || "packets in the file".to_owned());
    gate.open();
    run.finish().assert_ok();
    let tail = tail.finish();
    assert!(tail.assert_ok().stderr.contains("will contain the keys of TLS connections"), "{tail}");
    let text = decrypted(&net.host, "x.pcapng");
    assert!(text.contains("/late") && !text.contains("/early"), "{text}");
    let mode = net.host.dir().join("x.pcapng").metadata().expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_tail_of_a_run_without_keys_is_refused() {
    let net = internet!();
    let mut run = net.host.start(&["-q"], &["sh", "-c", "echo ready; exec sleep 1000"]);
    run.wait_for_stdout("ready");
    let tail = net.host.netwatch(&["tail", "--keylog", "-w", "x.pcapng"]);
    tail.assert_error(2, &["write keys of the run", "its command writes none", "--keylog"]);
    assert!(!net.host.dir().join("x.pcapng").exists(), "a tail that is refused writes no file");
    run.signal(libc::SIGTERM);
    run.finish();
}

#[test]
fn without_the_flag_there_are_no_keys() {
    let net = internet!();
    let script = "echo \"keys: $SSLKEYLOGFILE\"; curl -sk https://app.example/one";
    let run = net.host.netwatch(&["run", "-q", "-w", "x.pcapng", "--", "sh", "-c", script]);
    assert!(run.assert_ok().stdout.starts_with("keys: \n"), "{run}");
    let bytes = fs::read(net.host.dir().join("x.pcapng")).expect("a file");
    let secrets = b"CLIENT_RANDOM";
    assert!(!bytes.windows(secrets.len()).any(|window| window == secrets));
}

#[test]
fn a_pcap_file_cannot_contain_keys() {
    let net = internet!();
    let run = net.host.netwatch(&["run", "-q", "--keylog", "-w", "x.pcap", "--", "true"]);
    run.assert_error(125, &["write keys to", "pcap cannot contain them", ".pcap"]);
}
