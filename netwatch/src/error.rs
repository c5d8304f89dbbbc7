//! The error type of netwatch: every failure names its operation, its object, its cause with the
//! errno, and a hint.

use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::unistd::geteuid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::escape::{escape, escape_lines};

/// Shorthand for results that fail with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The hint of EFBIG.
const FILE_SIZE_HINT: &str = "raise the limit for the size of files (`ulimit -f`)";

/// The hint of an operation that needs privileges: `needs CAP_NET_RAW; run with sudo`. For root
/// sudo changes nothing: what it lacks, its container withholds, bpf(2) also by seccomp.
pub fn needs(capabilities: &str) -> String {
    needs_as(geteuid().is_root(), capabilities)
}

fn needs_as(is_root: bool, capabilities: &str) -> String {
    let remedy = match (is_root, capabilities.contains("CAP_BPF")) {
        (false, _) => "run with sudo",
        (true, false) => "in a container, add what is missing",
        (true, true) => "in a container, add what is missing, and use a seccomp profile that allows bpf(2)",
    };
    format!("needs {capabilities}; {remedy}")
}

/// A failed operation. `{}` displays it on one line, for notes in reports; `{:#}` puts the hint on
/// a second line, for people:
///
/// ```text
/// cannot attach classifier to nw3f2a: Operation not permitted (EPERM)
/// hint: needs CAP_BPF and CAP_NET_ADMIN; run with sudo
/// ```
#[derive(Debug)]
pub struct Error {
    operation: String,
    object: String,
    cause: Cause,
    hint: Option<String>,
}

#[derive(Debug)]
enum Cause {
    Os(io::Error),
    Other(String),
}

impl Error {
    /// A system call or I/O operation failed. `operation` is a verb phrase ("create interface"),
    /// `object` what it was applied to ("nw3f2a"; can be empty).
    pub fn os(operation: impl Into<String>, object: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        let cause = cause.into();
        let hint = (cause.raw_os_error() == Some(libc::EFBIG)).then(|| FILE_SIZE_HINT.to_owned());
        Self { operation: operation.into(), object: object.into(), cause: Cause::Os(cause), hint }
    }

    /// Like [`Error::os`], for a cause without an errno.
    pub fn other(operation: impl Into<String>, object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { operation: operation.into(), object: object.into(), cause: Cause::Other(cause.into()), hint: None }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The errno of the failed call, if there was one.
    pub fn errno(&self) -> Option<Errno> {
        match &self.cause {
            Cause::Os(error) => error.raw_os_error().map(Errno::from_raw),
            Cause::Other(_) => None,
        }
    }
}

/// Control characters are escaped, because names and texts can come from files and servers. A cause
/// keeps its line breaks.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if !self.object.is_empty() {
            write!(f, " {}", escape(&self.object))?;
        }
        let cause = match &self.cause {
            Cause::Os(error) => &describe(error),
            Cause::Other(text) => text,
        };
        write!(f, ": {}", escape_lines(cause))?;
        let Some(hint) = &self.hint else { return Ok(()) };
        let separator = if f.alternate() { "\nhint:" } else { ";" };
        write!(f, "{separator} {}", escape_lines(hint))
    }
}

/// An error as it passes between netwatch and its guardian.
#[derive(Serialize, Deserialize)]
struct ErrorMessage {
    operation: String,
    object: String,
    errno: Option<i32>,
    cause: String,
    hint: Option<String>,
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (errno, cause) = match &self.cause {
            Cause::Os(error) => (error.raw_os_error(), error.to_string()),
            Cause::Other(text) => (None, text.clone()),
        };
        let (operation, object, hint) = (self.operation.clone(), self.object.clone(), self.hint.clone());
        ErrorMessage { operation, object, errno, cause, hint }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ErrorMessage { operation, object, errno, cause, hint } = ErrorMessage::deserialize(deserializer)?;
        let cause = errno.map_or(Cause::Other(cause), |errno| Cause::Os(io::Error::from_raw_os_error(errno)));
        Ok(Self { operation, object, cause, hint })
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Os(error) => Some(error),
            Cause::Other(_) => None,
        }
    }
}

/// The text and the name of the errno: `Operation not permitted (EPERM)`.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_operation_object_cause_errno_and_hint() {
        let error = Error::os("attach classifier to", "nw3f2a", io::Error::from_raw_os_error(libc::EPERM))
            .hint("run with sudo");
        assert_eq!(
            error.to_string(),
            "cannot attach classifier to nw3f2a: Operation not permitted (EPERM); run with sudo"
        );
        assert_eq!(
            format!("{error:#}"),
            "cannot attach classifier to nw3f2a: Operation not permitted (EPERM)\nhint: run with sudo"
        );
        assert_eq!(error.errno(), Some(Errno::EPERM));
    }

    #[test]
    fn the_hint_for_root_is_not_sudo() {
        assert_eq!(needs_as(false, "CAP_NET_RAW"), "needs CAP_NET_RAW; run with sudo");
        assert_eq!(needs_as(true, "CAP_NET_RAW"), "needs CAP_NET_RAW; in a container, add what is missing");
        let hint = needs_as(true, "CAP_BPF and CAP_NET_ADMIN");
        assert!(hint.ends_with("add what is missing, and use a seccomp profile that allows bpf(2)"), "{hint}");
    }

    #[test]
    fn escapes_control_characters() {
        let error = Error::other("read", "a\u{1b}]0;title\u{7}\nb", "line 1\nline\r2 \u{202e}").hint("try \u{9b}2J");
        assert_eq!(
            error.to_string(),
            "cannot read a\\u{1b}]0;title\\u{7}\\nb: line 1\nline\\r2 \\u{202e}; try \\u{9b}2J"
        );
        let error = Error::os("read", "x", io::Error::other("\u{1b}[31m"));
        assert_eq!(error.to_string(), "cannot read x: \\u{1b}[31m");
    }

    #[test]
    fn omits_an_empty_object_and_a_missing_hint() {
        assert_eq!(format!("{:#}", Error::other("start", "", "no command")), "cannot start: no command");
    }
}
