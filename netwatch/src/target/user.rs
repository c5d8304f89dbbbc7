//! The user that the command runs as, and the owner of the files that netwatch writes.

use std::env;
use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User};

use crate::error::{Error, Result};

/// A user that the command can become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Login name, or the uid if there is none.
    pub name: String,
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
    /// Whether the user is in the user database, from which supplementary groups are taken.
    pub known: bool,
}

impl Identity {
    /// The user of `-u`: a name, or a number (`1000` or `#1000`, as in sudo).
    pub fn named(text: &str) -> Result<Self> {
        if let Some(user) = look_up("user", text, User::from_name(text))? {
            return Ok(user.into());
        }
        let number = text.strip_prefix('#').unwrap_or(text);
        match number.parse::<u32>() {
            Ok(uid) => Self::by_uid(Uid::from_raw(uid), Gid::from_raw(uid)),
            Err(_) => {
                Err(Error::other("run as user", text, "no such user")
                    .hint("give a name from `getent passwd`, or a uid"))
            }
        }
    }

    /// The user who called sudo, if netwatch was started by sudo. `None` in a root shell (`sudo
    /// -i`), where the variables of sudo are still set although the user works as root.
    pub fn of_sudo() -> Result<Option<Self>> {
        if env::var("SUDO_COMMAND").is_ok_and(|command| is_shell(&command)) {
            return Ok(None);
        }
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let Some(uid) = number("SUDO_UID") else { return Ok(None) };
        let gid = number("SUDO_GID").unwrap_or(uid);
        Self::by_uid(Uid::from_raw(uid), Gid::from_raw(gid)).map(Some)
    }

    /// The user that netwatch runs as.
    pub fn own() -> Result<Self> {
        Self::by_uid(Uid::effective(), Gid::effective())
    }

    fn by_uid(uid: Uid, gid: Gid) -> Result<Self> {
        Ok(look_up("uid", &uid.to_string(), User::from_uid(uid))?.map_or_else(|| Self::unknown(uid, gid), Into::into))
    }

    fn unknown(uid: Uid, gid: Gid) -> Self {
        Self {
            name: uid.to_string(),
            uid,
            gid,
            home: PathBuf::from("/"),
            shell: PathBuf::from("/bin/sh"),
            known: false,
        }
    }

    /// The groups of the user in the user database.
    pub fn groups(&self) -> Result<Vec<Gid>> {
        if !self.known {
            return Ok(vec![self.gid]);
        }
        let name = CString::new(self.name.as_str()).expect("a login name has no NUL");
        nix::unistd::getgrouplist(&name, self.gid)
            .map_err(|errno| Error::os("look up the groups of", self.name.clone(), errno))
    }
}

impl From<User> for Identity {
    fn from(user: User) -> Self {
        Self { name: user.name, uid: user.uid, gid: user.gid, home: user.dir, shell: user.shell, known: true }
    }
}

/// Whether the command of sudo is an interactive shell: `sudo -i`, `sudo -s`, `sudo su`. It then
/// has no arguments, while netwatch and scripts always have some.
fn is_shell(sudo_command: &str) -> bool {
    const SHELLS: [&str; 14] =
        ["sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "tcsh", "csh", "ash", "nu", "elvish", "xonsh", "su"];
    let name = sudo_command.rsplit('/').next().unwrap_or_default();
    SHELLS.contains(&name)
}

fn look_up(what: &str, text: &str, answer: nix::Result<Option<User>>) -> Result<Option<User>> {
    answer.map_err(|errno| Error::os(format!("look up {what}"), text, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_a_root_shell_from_a_command() {
        for shell in ["/bin/bash", "/usr/bin/zsh", "/bin/su"] {
            assert!(is_shell(shell), "{shell}");
        }
        for command in ["/usr/bin/netwatch run -- make", "/bin/sh -c make", "/opt/bash/deploy", ""] {
            assert!(!is_shell(command), "{command}");
        }
    }

    #[test]
    fn finds_users_by_name_and_number() {
        let root = Identity::named("root").expect("root exists");
        assert_eq!((root.uid.as_raw(), root.known), (0, true));
        assert_eq!(Identity::named("0").expect("root by number"), root);
        assert_eq!(Identity::named("#0").expect("root as sudo writes it"), root);
    }

    #[test]
    fn a_number_without_an_entry_is_a_user_without_groups() {
        let user = Identity::named("4000000001").expect("any uid will do");
        assert_eq!((user.known, user.gid.as_raw()), (false, 4_000_000_001));
        assert_eq!(user.groups().expect("own group only"), vec![user.gid]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = Identity::named("no-such-user-here").expect_err("must fail").to_string();
        assert!(error.starts_with("cannot run as user no-such-user-here: no such user"), "{error}");
    }
}
