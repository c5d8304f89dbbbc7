//! `--keylog`: a capture that decrypts by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use netwatch_tests::{StartOptions, TestHost, USER, USER_ID, internet, needs};

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
