//! The environment of the command: the caller's, except for what sudo replaced.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::user::Identity;
use crate::proc::stat::ProcStat;

/// The default PATH of a login (Debian's `ENV_PATH` in /etc/login.defs).
const LOGIN_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
const LOGIN_PATH_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many ancestors to search for sudo, which may have a monitor process between itself and
/// netwatch.
const MAX_ANCESTORS: usize = 6;

/// Environment variables in order, each name once.
pub type Variables = Vec<(OsString, OsString)>;

/// The environment for a command that runs as `user`. With `changed`, this is not the user that
/// netwatch runs as; `sudo_path` is the PATH the calling user had before sudo replaced it.
pub fn for_user(own: Variables, user: &Identity, changed: bool, sudo_path: Option<OsString>) -> Variables {
    let mut variables = own;
    if changed {
        let login_path = if user.uid.is_root() { LOGIN_PATH_ROOT } else { LOGIN_PATH };
        set(&mut variables, "HOME", user.home.as_os_str());
        set(&mut variables, "USER", OsStr::new(&user.name));
        set(&mut variables, "LOGNAME", OsStr::new(&user.name));
        set(&mut variables, "SHELL", user.shell.as_os_str());
        set(&mut variables, "PATH", sudo_path.as_deref().unwrap_or(OsStr::new(login_path)));
    }
    set(&mut variables, "NETWATCH", OsStr::new("1"));
    variables
}

/// Adds NETWATCH_GATEWAY, the address by which the command reaches the host.
pub fn with_gateway(environment: &[CString], gateway: Option<IpAddr>) -> Vec<CString> {
    const NAME: &str = "NETWATCH_GATEWAY=";
    let others = environment.iter().filter(|entry| !entry.as_bytes().starts_with(NAME.as_bytes())).cloned();
    let gateway = gateway.map(|address| CString::new(format!("{NAME}{address}")).expect("an address has no NUL"));
    others.chain(gateway).collect()
}

fn set(variables: &mut Variables, name: &str, value: &OsStr) {
    match variables.iter_mut().find(|(key, _)| key == name) {
        Some((_, old)) => *old = value.to_owned(),
        None => variables.push((name.into(), value.to_owned())),
    }
}

/// The PATH of the user who called sudo. sudo gives its child a `secure_path`, but its own process
/// keeps the environment that it was started with.
pub fn path_before_sudo() -> Option<OsString> {
    let mut pid = std::process::id();
    for _ in 0..MAX_ANCESTORS {
        pid = ProcStat::of(pid)?.parent;
        if fs::read(format!("/proc/{pid}/comm")).ok()?.trim_ascii_end() == b"sudo" {
            return variable(&fs::read(format!("/proc/{pid}/environ")).ok()?, b"PATH=");
        }
    }
    None
}

fn variable(environ: &[u8], prefix: &[u8]) -> Option<OsString> {
    let entry = environ.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix))?;
    Some(OsString::from_vec(OsStr::from_bytes(entry).as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Identity {
        Identity {
            name: "alice".into(),
            uid: nix::unistd::Uid::from_raw(1000),
            gid: nix::unistd::Gid::from_raw(1000),
            home: "/home/alice".into(),
            shell: "/bin/zsh".into(),
            known: true,
        }
    }

    fn get<'a>(variables: &'a Variables, name: &str) -> &'a str {
        variables.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.to_str()).unwrap_or("(unset)")
    }

    #[test]
    fn another_user_gets_its_own_home_and_the_path_before_sudo() {
        let own = vec![("HOME".into(), "/root".into()), ("PATH".into(), "/sbin".into()), ("LANG".into(), "C".into())];
        let got = for_user(own, &alice(), true, Some("/home/alice/.cargo/bin:/bin".into()));
        assert_eq!(get(&got, "HOME"), "/home/alice");
        assert_eq!((get(&got, "USER"), get(&got, "LOGNAME"), get(&got, "SHELL")), ("alice", "alice", "/bin/zsh"));
        assert_eq!(get(&got, "PATH"), "/home/alice/.cargo/bin:/bin");
        assert_eq!((get(&got, "LANG"), get(&got, "NETWATCH")), ("C", "1"));
    }

    #[test]
    fn uses_a_login_path_without_sudo_and_keeps_everything_for_the_same_user() {
        assert_eq!(get(&for_user(vec![], &alice(), true, None), "PATH"), LOGIN_PATH);
        let own: Variables = vec![("HOME".into(), "/root".into()), ("PATH".into(), "/sbin".into())];
        let got = for_user(own, &alice(), false, None);
        assert_eq!((get(&got, "HOME"), get(&got, "PATH"), get(&got, "NETWATCH")), ("/root", "/sbin", "1"));
    }

    #[test]
    fn the_gateway_replaces_that_of_another_run() {
        let own = [c"A=1".to_owned(), c"NETWATCH_GATEWAY=10.0.0.1".to_owned()];
        let replaced = [c"A=1".to_owned(), c"NETWATCH_GATEWAY=10.87.0.1".to_owned()];
        assert_eq!(with_gateway(&own, Some([10, 87, 0, 1].into())), replaced);
        assert_eq!(with_gateway(&own, None), [c"A=1".to_owned()]);
    }

    #[test]
    fn finds_a_variable_in_a_process_environment() {
        assert_eq!(variable(b"A=1\0PATH=/x:/y\0Z=", b"PATH="), Some("/x:/y".into()));
        assert_eq!(variable(b"XPATH=/x\0", b"PATH="), None);
    }
}
