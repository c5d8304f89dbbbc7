//! Values as columns of a row: each type knows how many it takes, and reads back what it wrote. Columns are found by their position.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rusqlite::types::{Null, ValueRef};
use rusqlite::{Row, Statement, ToSql};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is wrong with a value that was read.
#[derive(Debug)]
pub(super) enum Wrong {
    /// SQLite could not read.
    Sqlite(rusqlite::Error),
    /// A column holds what no netwatch wrote there.
    Value(String),
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The row that is being written: its values in their order.
pub(super) struct Binder<'a, 'c> {
    statement: &'a mut Statement<'c>,
    next: usize,
}

impl<'a, 'c> Binder<'a, 'c> {
    pub fn new(statement: &'a mut Statement<'c>) -> Self {
        Self { statement, next: 1 }
    }

    pub fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }

    /// Executes the statement with what was bound.
    pub fn execute(self) -> rusqlite::Result<usize> {
        self.statement.raw_execute()
    }
}

/// The row that is being read: its values in their order.
pub(super) struct Cursor<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    /// The next value.
    pub fn value(&mut self) -> Result<ValueRef<'a>, Wrong> {
        let value = self.row.get_ref(self.next)?;
        self.next += 1;
        Ok(value)
    }

    pub fn take<T: Take>(&mut self) -> Result<T, Wrong> {
        T::take(self)
    }

    /// What is wrong with the value before.
    pub fn wrong(&self, value: ValueRef<'_>) -> Wrong {
        let column = self.next.checked_sub(1).and_then(|at| self.row.as_ref().column_name(at).ok());
        let shown = match value {
            ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text).escape_default()),
            ValueRef::Integer(value) => value.to_string(),
            other => format!("{:?}", other.data_type()).to_lowercase(),
        };
        Wrong::Value(format!("{} cannot be {shown}", column.unwrap_or("a column")))
    }

    fn is_null(&self) -> Result<bool, Wrong> {
        Ok(matches!(self.row.get_ref(self.next)?, ValueRef::Null))
    }
}

/// What can be written.
pub(super) trait Put {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()>;
}

/// What can be read back, and the columns it has. The first of them is never empty, so that an absent value can be told.
pub(super) trait Take: Sized {
    const WIDTH: usize;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong>;
}

/// SQLite's integers are signed: larger values are kept by their bits.
impl Put for u64 {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(self.cast_signed())
    }
}

impl Take for u64 {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        Ok(i64::take(row)?.cast_unsigned())
    }
}

/// A number of things that were counted. More than 2^53 (what JSON's readers can tell apart) no run comes to, and sums of fewer do not overflow.
pub(super) struct Count(u64);

impl From<Count> for u64 {
    fn from(count: Count) -> Self {
        count.0
    }
}

impl Take for Count {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        const LARGEST: u64 = 1 << 53;
        let value = row.value()?;
        let ValueRef::Integer(integer) = value else { return Err(row.wrong(value)) };
        u64::try_from(integer).ok().filter(|count| *count <= LARGEST).map(Self).ok_or_else(|| row.wrong(value))
    }
}

impl Take for i64 {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        match row.value()? {
            ValueRef::Integer(value) => Ok(value),
            other => Err(row.wrong(other)),
        }
    }
}

macro_rules! integers {
    ($($small:ty),*) => {$(
        impl Put for $small {
            fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
                row.bind(*self)
            }
        }

        impl Take for $small {
            const WIDTH: usize = 1;
            fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
                let value = row.value()?;
                let ValueRef::Integer(integer) = value else { return Err(row.wrong(value)) };
                Self::try_from(integer).map_err(|_| row.wrong(value))
            }
        }
    )*};
}
integers!(u8, u16, u32, i32);

impl Put for i64 {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(*self)
    }
}

impl Put for bool {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(*self)
    }
}

impl Take for bool {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        match row.value()? {
            ValueRef::Integer(value @ (0 | 1)) => Ok(value == 1),
            other => Err(row.wrong(other)),
        }
    }
}

impl Put for str {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(self)
    }
}

impl Put for &str {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(*self)
    }
}

impl Put for String {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(self.as_str())
    }
}

impl Take for String {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        text(row, |text| Some(text.to_owned()))
    }
}

/// The next value, which has to be text that can be read.
pub(super) fn text<T>(row: &mut Cursor<'_>, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
    let value = row.value()?;
    let ValueRef::Text(bytes) = value else { return Err(row.wrong(value)) };
    std::str::from_utf8(bytes).ok().and_then(read).ok_or_else(|| row.wrong(value))
}

/// Addresses are text, for people who ask in SQL.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Put for $type {
            fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
                row.bind(self.to_string())
            }
        }

        impl Take for $type {
            const WIDTH: usize = 1;
            fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
                text(row, |text| Self::from_str(text).ok())
            }
        }
    )*};
}
as_text!(IpAddr, SocketAddr);

/// Short lists are JSON, which SQLite's `json_each` takes apart.
impl<T: Serialize> Put for Vec<T> {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(serde_json::to_string(self).expect("plain values"))
    }
}

impl<T: DeserializeOwned> Take for Vec<T> {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        text(row, |text| serde_json::from_str(text).ok())
    }
}

impl<T: Put + Take> Put for Option<T> {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        match self {
            Some(value) => value.put(row),
            None => (0..T::WIDTH).try_for_each(|_| row.bind(Null)),
        }
    }
}

impl<T: Put + Take> Take for Option<T> {
    const WIDTH: usize = T::WIDTH;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        if row.is_null()? {
            row.next += T::WIDTH;
            return Ok(None);
        }
        T::take(row).map(Some)
    }
}

/// A struct whose fields stand beside each other, in this order.
macro_rules! columns {
    ($type:ty { $($field:ident : $kind:ty),* $(,)? }) => {
        impl Put for $type {
            fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
                $(self.$field.put(row)?;)*
                Ok(())
            }
        }

        impl Take for $type {
            const WIDTH: usize = 0 $(+ <$kind as Take>::WIDTH)*;
            fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
                Ok(Self { $($field: row.take::<$kind>()?.into()),* })
            }
        }
    };
}

/// An enum without values, by a word for each.
macro_rules! words {
    ($type:ty { $($variant:ident = $word:expr),* $(,)? }) => {
        impl Put for $type {
            fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
                row.bind(match self { $(Self::$variant => $word),* })
            }
        }

        impl Take for $type {
            const WIDTH: usize = 1;
            fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
                const ALL: &[$type] = &[$(<$type>::$variant),*];
                let word = |value: &$type| match value { $(<$type>::$variant => $word),* };
                text(row, |text| ALL.iter().copied().find(|value| word(value) == text))
            }
        }
    };
}

pub(super) use {columns, words};
