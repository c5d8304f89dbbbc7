//! The one error type: every failure names its operation, its object, its cause with the errno, and what to do.

use std::fmt;
use std::io;

/// Shorthand for results that fail with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation. Displays as one line:
/// `cannot attach classifier to nw3f2a: Operation not permitted (EPERM): needs CAP_BPF and CAP_NET_ADMIN; run with sudo`.
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
    Said(String),
}

impl Error {
    /// A system call or I/O operation failed. `operation` is a verb phrase ("create interface"), `object` what it was done to ("nw3f2a"; may be empty).
    pub fn os(operation: impl Into<String>, object: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self { operation: operation.into(), object: object.into(), cause: Cause::Os(cause.into()), hint: None }
    }

    /// Something other than a system call is in the way; `cause` says what.
    pub fn said(operation: impl Into<String>, object: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { operation: operation.into(), object: object.into(), cause: Cause::Said(cause.into()), hint: None }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The errno of the failed call, if there was one.
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        match &self.cause {
            Cause::Os(error) => error.raw_os_error().map(nix::errno::Errno::from_raw),
            Cause::Said(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        match &self.cause {
            Cause::Os(error) => write!(f, ": {}", describe(error))?,
            Cause::Said(text) => write!(f, ": {text}")?,
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Os(error) => Some(error),
            Cause::Said(_) => None,
        }
    }
}

/// `Operation not permitted (EPERM)`: the kernel's text and the name people search for.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
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
            "cannot attach classifier to nw3f2a: Operation not permitted (EPERM): run with sudo"
        );
        assert_eq!(error.errno(), Some(nix::errno::Errno::EPERM));
    }

    #[test]
    fn leaves_out_what_is_not_there() {
        assert_eq!(Error::said("start", "", "no command").to_string(), "cannot start: no command");
    }
}
