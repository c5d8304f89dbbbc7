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
    // The terminal may be that of a root shell which the caller of sudo has opened.
    assert_eq!(run.assert_ok().stdout, "EPERM\n", "the caller of sudo");
}

#[test]
fn another_user_does_not_inherit_descriptors_of_root() {
    let net = internet!();
    let secret = net.host.dir().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let read = |variables: &str, flags: &str| {
        let netwatch = format!("{variables} {} run -q --no-record {flags}", net.host.binary().display());
        net.host.try_sh(&format!("exec 9<secret; exec env {netwatch} -- sh -c 'cat <&9'"))
    };
    assert_eq!(read("", ""), (true, "secret\n".to_owned()), "root has it as without netwatch");
    let of_sudo = format!("SUDO_UID={USER_ID} SUDO_GID={USER_ID}");
    for (variables, flags) in [("", format!("-u {USER}")), (&of_sudo, String::new())] {
        let (is_read, text) = read(variables, &flags);
        assert!(!is_read && !text.contains("secret\n"), "{variables} {flags}: {text}");
    }
}
