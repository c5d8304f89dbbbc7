//! Columns: a name with its unit, a type, and where the value comes from.

use std::borrow::Cow;

/// The type of the values of a column. All of them may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExportKind {
    Text,
    /// Unsigned, 64 bits.
    Integer,
    /// Nanoseconds since the Unix epoch.
    Time,
    Flag,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ExportCell<'a> {
    Absent,
    Text(Cow<'a, str>),
    Number(u64),
    Flag(bool),
}

/// A column of rows of type `R`.
pub(super) struct ExportColumn<R> {
    pub name: &'static str,
    pub kind: ExportKind,
    pub value: for<'r> fn(&'r R) -> ExportCell<'r>,
}

impl<R> ExportColumn<R> {
    pub const fn text(name: &'static str, value: for<'r> fn(&'r R) -> ExportCell<'r>) -> Self {
        Self { name, kind: ExportKind::Text, value }
    }

    pub const fn integer(name: &'static str, value: for<'r> fn(&'r R) -> ExportCell<'r>) -> Self {
        Self { name, kind: ExportKind::Integer, value }
    }

    pub const fn time(name: &'static str, value: for<'r> fn(&'r R) -> ExportCell<'r>) -> Self {
        Self { name, kind: ExportKind::Time, value }
    }

    pub const fn flag(name: &'static str, value: for<'r> fn(&'r R) -> ExportCell<'r>) -> Self {
        Self { name, kind: ExportKind::Flag, value }
    }
}

impl From<u64> for ExportCell<'_> {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for ExportCell<'_> {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl<'a> From<&'a str> for ExportCell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for ExportCell<'_> {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl<'a, T: Into<ExportCell<'a>>> From<Option<T>> for ExportCell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}
