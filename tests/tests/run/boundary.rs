//! A command of another user in a session of root: what belongs to the session stays out of reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use netwatch_tests::{StartOptions, USER, USER_ID, internet};

use crate::TRAFFIC;

#[test]
fn another_user_cannot_type_into_the_terminal_of_root() {
    let net = internet!();
    // Standard input is no terminal, so a request that is not refused fails with ENOTTY.
    assert_eq!(net.host.run(&["-u", USER], &[TRAFFIC, "type"]).assert_ok().stdout, "EPERM\n");
    assert_eq!(net.host.run(&[], &[TRAFFIC, "type"]).assert_ok().stdout, "ENOTTY\n", "root");
    let id = USER_ID.to_string();
    let caller = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id)]);
    let run = net.host.netwatch_with(caller, &["run", "-q", "--no-record", "--", TRAFFIC, "type"]);
    assert_eq!(run.assert_ok().stdout, "ENOTTY\n", "the terminal belongs to the caller of sudo");
}

#[test]
fn another_user_does_not_inherit_descriptors_of_root() {
    let net = internet!();
    let secret = net.host.dir().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let read = |flags: &str| {
        let netwatch = net.host.binary();
        net.host.try_sh(&format!("exec 9<secret; exec {} run -q {flags} -- sh -c 'cat <&9'", netwatch.display()))
    };
    assert_eq!(read(""), (true, "secret\n".to_owned()), "root has it as without netwatch");
    let (is_read, text) = read(&format!("-u {USER}"));
    assert!(!is_read && !text.contains("secret\n"), "{text}");
}
