//! Columns: a name with its unit, a type, and where the value comes from.

use std::borrow::Cow;

/// What values a column has. All of them may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Unsigned, 64 bits.
    Integer,
    /// Nanoseconds since the Unix epoch.
    Time,
    Flag,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Absent,
    Text(Cow<'a, str>),
    Number(u64),
    Flag(bool),
}

/// A column of rows of type `R`.
pub(super) struct Column<R> {
    pub name: &'static str,
    pub kind: Kind,
    pub value: for<'r> fn(&'r R) -> Cell<'r>,
}

impl<R> Column<R> {
    pub const fn text(name: &'static str, value: for<'r> fn(&'r R) -> Cell<'r>) -> Self {
        Self { name, kind: Kind::Text, value }
    }

    pub const fn integer(name: &'static str, value: for<'r> fn(&'r R) -> Cell<'r>) -> Self {
        Self { name, kind: Kind::Integer, value }
    }

    pub const fn time(name: &'static str, value: for<'r> fn(&'r R) -> Cell<'r>) -> Self {
        Self { name, kind: Kind::Time, value }
    }

    pub const fn flag(name: &'static str, value: for<'r> fn(&'r R) -> Cell<'r>) -> Self {
        Self { name, kind: Kind::Flag, value }
    }
}

impl From<u64> for Cell<'_> {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Cell<'_> {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Cell<'_> {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}
