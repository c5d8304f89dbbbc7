//! Prevents glibc from resolving names through a daemon of the host, outside the network namespace:
//! the sockets of nscd and systemd-resolved are hidden, and nss-resolve, which passes host names to
//! systemd-resolved, is removed from nsswitch.conf(5).
//!
//! The other services of nsswitch.conf stay. `files` and `myhostname` read files and the
//! namespace's own interfaces. `mymachines` returns addresses of local containers, as /etc/hosts
//! might; it queries a local daemon and sends no packet. `mdns*` makes avahi query the local
//! network, for names that the target could not resolve otherwise; what avahi sends is not counted,
//! like the work of other daemons.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::{bind, is_same_file, write_readable};
use crate::error::{Error, Result};

pub(super) const NSSWITCH: &str = "/etc/nsswitch.conf";

/// glibc connects to nscd by the path in /var/run; where that is not a link to /run, there are two
/// sockets. nss-resolve connects to the sockets of systemd-resolved; nsswitch.conf is changed as
/// well, because an older nss-resolve uses D-Bus, which the target needs for other things.
pub(super) const SOCKETS: [&str; 4] = [
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
];

/// Mounted over the sockets. connect(2) to a file that is not a socket fails with ECONNREFUSED, as
/// if the daemon were not running, which every client handles. Every user may write to /dev/null; a
/// socket file that netwatch created would give EACCES.
const COVER: &str = "/dev/null";

/// Hides the sockets that exist; returns the number of those that were not hidden yet.
pub(super) fn hide_sockets() -> Result<usize> {
    let mut hidden = 0;
    for socket in SOCKETS.map(Path::new) {
        match hide(socket) {
            Ok(is_new) => hidden += usize::from(is_new),
            Err(errno) => return Err(Error::os("hide", socket.display().to_string(), errno)),
        }
    }
    Ok(hidden)
}

fn hide(socket: &Path) -> Result<bool, Errno> {
    if !socket.exists() || is_same_file(socket, Path::new(COVER)) {
        return Ok(false);
    }
    match bind(Path::new(COVER), socket) {
        Ok(()) => Ok(true),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Mounts a changed copy over the host's nsswitch.conf if that lists nss-resolve. Returns whether
/// this call mounted it.
pub(super) fn cover_nsswitch(private: &Path) -> Result<bool> {
    let (copy, target) = (private.join("nsswitch.conf"), Path::new(NSSWITCH));
    if is_same_file(&copy, target) {
        return Ok(false);
    }
    let text = match fs::read(target) {
        Ok(text) => text,
        // glibc's default is `files dns`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::os("read", NSSWITCH, error)),
    };
    let Some(changed) = without_resolve(&text) else { return Ok(false) };
    write_readable(&copy, &changed)?;
    bind(&copy, target).map_err(|errno| Error::os("mount the command's own", NSSWITCH, errno))?;
    Ok(true)
}

/// The text without `resolve` and the `[…]` actions after it in the hosts line; `None` if the
/// line has no `resolve`. If the line has no `dns` either, `dns` replaces `resolve`, because
/// otherwise nothing would be resolved.
pub fn without_resolve(text: &[u8]) -> Option<Vec<u8>> {
    let mut found = false;
    let lines: Vec<Vec<u8>> = text
        .split(|byte| *byte == b'\n')
        .map(|line| match hosts_line(line) {
            Some(changed) => {
                found = true;
                changed
            }
            None => line.to_vec(),
        })
        .collect();
    found.then(|| lines.join(&b'\n'))
}

fn hosts_line(line: &[u8]) -> Option<Vec<u8>> {
    let (value, comment) = line.split_at(line.iter().position(|byte| *byte == b'#').unwrap_or(line.len()));
    let colon = value.iter().position(|byte| *byte == b':')?;
    if value[..colon].trim_ascii() != b"hosts" {
        return None;
    }
    let (head, services) = value.split_at(colon + 1);
    let words = words(services);
    let is = |word: &&[u8], name: &[u8]| word.trim_ascii() == name;
    words.iter().find(|word| is(word, b"resolve"))?;
    let mut replacement = if words.iter().any(|word| is(word, b"dns")) { None } else { Some(b" dns") };
    let mut changed = head.to_vec();
    let mut dropping = false;
    for word in words {
        let action = word.trim_ascii().starts_with(b"[");
        dropping = if action { dropping } else { is(&word, b"resolve") };
        if !dropping {
            // Only the removed actions may have separated the two services.
            let glued = !action && !word[0].is_ascii_whitespace() && changed.last().is_some_and(u8::is_ascii_lowercase);
            changed.extend_from_slice(if glued { b" " } else { b"" });
            changed.extend_from_slice(word);
        } else if !action && let Some(dns) = replacement.take() {
            changed.extend_from_slice(dns);
        }
    }
    changed.extend_from_slice(comment);
    Some(changed)
}

/// Services and `[…]` actions, each with the blanks before it: concatenated, they equal the text.
fn words(services: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut rest = services;
    while !rest.is_empty() {
        let start = rest.len() - rest.trim_ascii_start().len();
        let body = &rest[start..];
        let length = match body.first() {
            Some(b'[') => body.iter().position(|byte| *byte == b']').map_or(body.len(), |end| end + 1),
            _ => body.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'[').unwrap_or(body.len()),
        };
        let (word, after) = rest.split_at(start + length);
        words.push(word);
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn removes_resolve_and_its_actions_from_the_hosts_line() {
        let cases: &[(&str, Option<&str>)] = &[
            (
                "hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns",
                Some("hosts: mymachines files myhostname dns"),
            ),
            ("hosts:\tfiles resolve[!UNAVAIL=return]dns # as shipped", Some("hosts:\tfiles dns # as shipped")),
            ("hosts: files resolve [NOTFOUND=return UNAVAIL=continue] [x=y]", Some("hosts: files dns")),
            ("hosts: resolve", Some("hosts: dns")),
            (
                "  hosts :files mdns4_minimal [NOTFOUND=return] resolve dns",
                Some("  hosts :files mdns4_minimal [NOTFOUND=return] dns"),
            ),
            ("hosts: files resolver dns", None),
            ("hosts: files dns # resolve", None),
            ("networks: resolve", None),
            ("hosts", None),
        ];
        for (line, expected) in cases {
            let text = format!("passwd: files\n{line}\nipnodes: x\n");
            let changed = without_resolve(text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
            let expected = expected.map(|line| format!("passwd: files\n{line}\nipnodes: x\n"));
            assert_eq!(changed, expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_changes_a_line_once(line in "(hosts|passwd): ?[a-z \\[\\]!=#:]{0,30}(resolve)?[a-z \\[\\]!=#:]{0,30}") {
            if let Some(changed) = without_resolve(line.as_bytes()) {
                prop_assert_eq!(without_resolve(&changed), None);
            }
        }
    }
}
