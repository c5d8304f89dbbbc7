//! nsswitch.conf(5) without nss-resolve, which hands host names to systemd-resolved, outside of the namespace.
//!
//! The other services stay. `files` and `myhostname` look at files and at the namespace's own interfaces. `mymachines` knows the
//! addresses of local containers, as /etc/hosts might; it asks a local daemon and sends no packet. `mdns*` has avahi ask the local network: names that the
//! command could not have otherwise, and one of the things that daemons do for it unseen, like docker's.

use std::fs;
use std::io;
use std::path::Path;

use super::bind::{bind, same_file, write_readable};
use crate::error::{Error, Result};

pub(super) const PATH: &str = "/etc/nsswitch.conf";

/// Lays a changed copy over the host's file if that names nss-resolve. True if it was mounted just now.
pub(super) fn ensure(private: &Path) -> Result<bool> {
    let (copy, target) = (private.join("nsswitch.conf"), Path::new(PATH));
    if same_file(&copy, target) {
        return Ok(false);
    }
    let text = match fs::read(target) {
        Ok(text) => text,
        // glibc's default is `files dns`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::os("read", PATH, error)),
    };
    let Some(changed) = without_resolve(&text) else { return Ok(false) };
    write_readable(&copy, &changed)?;
    bind(&copy, target).map_err(|errno| Error::os("mount the command's own", PATH, errno))?;
    Ok(true)
}

/// The file's text with `resolve` and the `[…]` actions behind it gone from the hosts line, or `None` if it is not in there. Where
/// `dns` is not in the line, it takes the place: nothing would be resolved at all.
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
            // What stood between them may have been the actions only.
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

/// Services and `[…]` actions, each with the blanks before it, so that they add up to the whole.
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
    fn takes_resolve_and_its_actions_out_of_the_hosts_line() {
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
        fn never_panics_and_is_done_after_once(line in "(hosts|passwd): ?[a-z \\[\\]!=#:]{0,30}(resolve)?[a-z \\[\\]!=#:]{0,30}") {
            if let Some(changed) = without_resolve(line.as_bytes()) {
                prop_assert_eq!(without_resolve(&changed), None);
            }
        }
    }
}
