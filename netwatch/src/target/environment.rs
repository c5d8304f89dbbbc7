//! The environment of the command: the caller's, except for what sudo replaced.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;

use super::user::Identity;
use crate::proc::stat::ProcStat;

/// The default PATH of a login (Debian's `ENV_PATH` in /etc/login.defs).
const LOGIN_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
const LOGIN_PATH_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Maximum number of ancestors to search for sudo, which may have a monitor process between itself
/// and netwatch.
const MAX_ANCESTORS: usize = 6;

/// Variables that sudo removes and that the command of the caller gets back, besides `LC_*`,
/// `XDG_*` and `PATH`: proxies and certificates, the session, the locale, and the tools of a
/// developer. docs/reference.md lists them. Variables that name a user or a home directory are
/// missing, because they are set for the user of the command.
const FROM_CALLER: &[&str] = &[
    // Proxies and certificates.
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    // The session.
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_CONNECTION",
    "GPG_TTY",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "COLORTERM",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    // Tools.
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "GOPATH",
    "GOPROXY",
    "JAVA_HOME",
    "MAVEN_OPTS",
    "NVM_DIR",
    "PYENV_ROOT",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PIP_INDEX_URL",
    "DOCKER_HOST",
    "KUBECONFIG",
    "AWS_PROFILE",
    "AWS_REGION",
];
const FROM_CALLER_PREFIXES: [&str; 2] = ["LC_", "XDG_"];

/// Environment variables in order, each name once.
pub type Variables = Vec<(OsString, OsString)>;

/// The environment for a command that runs as `user`. With `changed`, this is not the user that
/// netwatch runs as; `before_sudo` is the environment of the caller before sudo replaced it, if the
/// command runs as the caller. A variable that netwatch itself has was kept by sudo or set after
/// it, so it is not replaced.
pub fn for_user(own: Variables, user: &Identity, changed: bool, before_sudo: Option<Variables>) -> Variables {
    let mut variables = own;
    if changed {
        let login_path = if user.uid.is_root() { LOGIN_PATH_ROOT } else { LOGIN_PATH };
        set(&mut variables, "HOME", user.home.as_os_str());
        set(&mut variables, "USER", OsStr::new(&user.name));
        set(&mut variables, "LOGNAME", OsStr::new(&user.name));
        set(&mut variables, "SHELL", user.shell.as_os_str());
        set(&mut variables, "PATH", OsStr::new(login_path));
        before_sudo.unwrap_or_default().iter().for_each(|(name, value)| restore(&mut variables, name, value));
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

/// Restores a variable of the caller. PATH is always replaced, because sudo or [`for_user`] has set
/// it.
fn restore(variables: &mut Variables, name: &OsStr, value: &OsStr) {
    let Some(text) = name.to_str() else { return };
    if text == "PATH" {
        return set(variables, text, value);
    }
    let is_listed = FROM_CALLER.contains(&text) || FROM_CALLER_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    if is_listed && !variables.iter().any(|(own, _)| own == name) {
        variables.push((name.to_owned(), value.to_owned()));
    }
}

fn set(variables: &mut Variables, name: &str, value: &OsStr) {
    match variables.iter_mut().find(|(key, _)| key == name) {
        Some((_, old)) => *old = value.to_owned(),
        None => variables.push((name.into(), value.to_owned())),
    }
}

/// The environment of the user who called sudo. sudo changes the environment of its child, but its
/// own process keeps the one that it was started with.
pub fn before_sudo() -> Option<Variables> {
    let mut pid = std::process::id();
    for _ in 0..MAX_ANCESTORS {
        pid = ProcStat::of(pid)?.parent;
        if fs::read(format!("/proc/{pid}/comm")).ok()?.trim_ascii_end() == b"sudo" {
            return Some(parse(&fs::read(format!("/proc/{pid}/environ")).ok()?));
        }
    }
    None
}

/// The variables of /proc/PID/environ.
fn parse(environ: &[u8]) -> Variables {
    let own = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let split = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        Some((own(&entry[..at]), own(&entry[at + 1..])))
    };
    environ.split(|byte| *byte == 0).filter_map(split).collect()
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
        let got = for_user(own, &alice(), true, Some(parse(b"PATH=/home/alice/.cargo/bin:/bin\0HOME=/x\0")));
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
    fn listed_variables_of_the_caller_come_back_unless_netwatch_has_them() {
        let own: Variables = vec![("http_proxy".into(), "after-sudo".into())];
        let caller =
            b"http_proxy=a\0SSH_AUTH_SOCK=/s\0LC_TIME=C\0XDG_RUNTIME_DIR=/run/user/1\0LD_PRELOAD=/x\0USER=eve\0";
        let got = for_user(own.clone(), &alice(), true, Some(parse(caller)));
        assert_eq!((get(&got, "http_proxy"), get(&got, "SSH_AUTH_SOCK")), ("after-sudo", "/s"));
        assert_eq!((get(&got, "LC_TIME"), get(&got, "XDG_RUNTIME_DIR")), ("C", "/run/user/1"));
        assert_eq!((get(&got, "LD_PRELOAD"), get(&got, "USER")), ("(unset)", "alice"));
        let got = for_user(own, &alice(), false, Some(parse(caller)));
        assert_eq!(get(&got, "SSH_AUTH_SOCK"), "(unset)", "the same user");
    }

    #[test]
    fn parses_the_environment_of_a_process() {
        let variables = parse(b"A=1\0PATH=/x:/y\0=odd\0nonsense\0B==\0");
        let expected: Variables = [("A", "1"), ("PATH", "/x:/y"), ("B", "=")].map(|(a, b)| (a.into(), b.into())).into();
        assert_eq!(variables, expected);
    }
}
