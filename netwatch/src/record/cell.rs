//! Values as columns of a row: each type defines its number of columns, and reads what it wrote.
//! Columns are found by their position.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use rusqlite::types::{Null, ValueRef};
use rusqlite::{Row, Statement, ToSql};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::flow::PerDirection;

/// Why a value could not be read.
#[derive(Debug)]
pub(super) enum Wrong {
    /// SQLite failed.
    Sqlite(rusqlite::Error),
    /// A column holds a value that netwatch never writes.
    Value(String),
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The row that is being written, value by value.
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

    /// Executes the statement with the bound values.
    pub fn execute(self) -> rusqlite::Result<usize> {
        self.statement.raw_execute()
    }
}

/// Sums of the counts of each column over the rows read so far.
#[derive(Default)]
pub(super) struct Sums(Vec<u64>);

/// The row that is being read, value by value.
pub(super) struct Cursor<'a> {
    row: &'a Row<'a>,
    next: usize,
    sums: &'a mut Sums,
}

impl<'a> Cursor<'a> {
    pub fn new(row: &'a Row<'a>, sums: &'a mut Sums) -> Self {
        Self { row, next: 0, sums }
    }

    /// The next value.
    pub fn value(&mut self) -> Result<ValueRef<'a>, Wrong> {
        let value = self.peek()?;
        self.next += 1;
        Ok(value)
    }

    pub fn take<T: Take>(&mut self) -> Result<T, Wrong> {
        T::take(self)
    }

    /// An error about the previous value.
    pub fn wrong(&self, value: ValueRef<'_>) -> Wrong {
        let shown = match value {
            ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text).escape_default()),
            ValueRef::Integer(value) => value.to_string(),
            other => format!("{:?}", other.data_type()).to_lowercase(),
        };
        Wrong::Value(format!("{} cannot be {shown}", self.column()))
    }

    /// The name of the previous column.
    fn column(&self) -> &str {
        self.next.checked_sub(1).and_then(|at| self.row.as_ref().column_name(at).ok()).unwrap_or("a column")
    }

    /// The next value, which must be a number in this range.
    fn integer(&mut self, range: RangeInclusive<i64>) -> Result<i64, Wrong> {
        match self.value()? {
            ValueRef::Integer(number) if range.contains(&number) => Ok(number),
            other => Err(self.wrong(other)),
        }
    }

    /// Adds to the sum of the previous column, which may be at most `most`.
    fn sum_up(&mut self, number: u64, most: u64) -> Result<(), Wrong> {
        let at = self.next.saturating_sub(1);
        if self.sums.0.len() <= at {
            self.sums.0.resize(at + 1, 0);
        }
        self.sums.0[at] = self.sums.0[at].saturating_add(number);
        if self.sums.0[at] > most {
            return Err(Wrong::Value(format!("the sum of {} exceeds {most}", self.column())));
        }
        Ok(())
    }

    fn is_null(&self) -> Result<bool, Wrong> {
        Ok(matches!(self.peek()?, ValueRef::Null))
    }

    /// Whether the next value is a number.
    pub fn is_number(&self) -> Result<bool, Wrong> {
        Ok(matches!(self.peek()?, ValueRef::Integer(_)))
    }

    fn peek(&self) -> Result<ValueRef<'a>, Wrong> {
        let missing = |_| Wrong::Value(format!("column {} is missing", self.next + 1));
        self.row.get_ref(self.next).map_err(missing)
    }
}

/// A value that can be written.
pub(super) trait Put {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()>;
}

/// A value that can be read, and its number of columns. The first column is never NULL, so that an
/// absent value is recognized.
pub(super) trait Take: Sized {
    const WIDTH: usize;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong>;
}

/// A time, a duration, or the number of a row. The sum of two of them fits into a signed integer.
impl Put for u64 {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(self.cast_signed())
    }
}

/// The largest time: the year 2116.
pub(super) const MAX_NUMBER: u64 = 1 << 62;

impl Take for u64 {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        row.integer(0..=MAX_NUMBER.cast_signed()).map(i64::cast_unsigned)
    }
}

/// A number whose sum over a column is at most `MOST`. Therefore no sum in a report overflows,
/// regardless of who wrote the file: a report adds a few columns, of at most [`super::MAX_RUNS`]
/// recordings.
pub(super) struct Summed<const MOST: u64>(u64);

/// A count. No run reaches 2^53, up to which JSON parsers read integers exactly.
pub(super) type Count = Summed<{ 1 << 53 }>;
/// A duration that is summed up.
pub(super) type TimeSum = Summed<MAX_NUMBER>;

impl<const MOST: u64> From<Summed<MOST>> for u64 {
    fn from(summed: Summed<MOST>) -> Self {
        summed.0
    }
}

impl<const MOST: u64> From<PerDirection<Summed<MOST>>> for PerDirection<u64> {
    fn from(summed: PerDirection<Summed<MOST>>) -> Self {
        summed.map(u64::from)
    }
}

impl<const MOST: u64> Take for Summed<MOST> {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let number = row.integer(0..=MOST.cast_signed())?.cast_unsigned();
        row.sum_up(number, MOST)?;
        Ok(Self(number))
    }
}

/// A difference between counts.
impl Take for i64 {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        const MAX_DIFFERENCE: i64 = 1 << 53;
        row.integer(-MAX_DIFFERENCE..=MAX_DIFFERENCE)
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

/// The next value, which must be text that `read` accepts.
pub(super) fn text<T>(row: &mut Cursor<'_>, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
    let value = row.value()?;
    let ValueRef::Text(bytes) = value else { return Err(row.wrong(value)) };
    std::str::from_utf8(bytes).ok().and_then(read).ok_or_else(|| row.wrong(value))
}

/// The text of an address, in place: each flow has two.
struct AddressText {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl AddressText {
    /// `[ffff:…:255.255.255.255%4294967295]:65535`
    const MAX: usize = 80;

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Addresses are text, for SQL queries by users.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Put for $type {
            fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
                let mut text = AddressText { bytes: [0; AddressText::MAX], len: 0 };
                write!(text, "{self}").expect("an address is short");
                row.bind(text.as_str())
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

/// Short lists are JSON, for SQLite's `json_each`.
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

/// A struct whose fields are adjacent columns, in this order.
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

/// An enum without values: one word for each variant.
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
