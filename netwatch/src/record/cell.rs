//! Values as columns of a row: each type knows how many it takes, and reads back what it wrote. Columns are found by their position.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use rusqlite::types::{Null, ValueRef};
use rusqlite::{Row, Statement, ToSql};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::flow::PerDirection;

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

/// What the counts of each column come to in the rows that were read.
#[derive(Default)]
pub(super) struct Sums(Vec<u64>);

/// The row that is being read: its values in their order.
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

    /// What is wrong with the value before.
    pub fn wrong(&self, value: ValueRef<'_>) -> Wrong {
        let shown = match value {
            ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text).escape_default()),
            ValueRef::Integer(value) => value.to_string(),
            other => format!("{:?}", other.data_type()).to_lowercase(),
        };
        Wrong::Value(format!("{} cannot be {shown}", self.column()))
    }

    /// The name of the column before.
    fn column(&self) -> &str {
        self.next.checked_sub(1).and_then(|at| self.row.as_ref().column_name(at).ok()).unwrap_or("a column")
    }

    /// The next value, which has to be a number in this range.
    fn integer(&mut self, range: RangeInclusive<i64>) -> Result<i64, Wrong> {
        match self.value()? {
            ValueRef::Integer(number) if range.contains(&number) => Ok(number),
            other => Err(self.wrong(other)),
        }
    }

    /// Adds to the sum of the column before, which may come to `most`.
    fn sum_up(&mut self, number: u64, most: u64) -> Result<(), Wrong> {
        let at = self.next.saturating_sub(1);
        if self.sums.0.len() <= at {
            self.sums.0.resize(at + 1, 0);
        }
        self.sums.0[at] = self.sums.0[at].saturating_add(number);
        if self.sums.0[at] > most {
            return Err(Wrong::Value(format!("{} comes to more than {most} in all rows", self.column())));
        }
        Ok(())
    }

    fn is_null(&self) -> Result<bool, Wrong> {
        Ok(matches!(self.peek()?, ValueRef::Null))
    }

    fn peek(&self) -> Result<ValueRef<'a>, Wrong> {
        let missing = |_| Wrong::Value(format!("column {} is missing", self.next + 1));
        self.row.get_ref(self.next).map_err(missing)
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

/// A moment, a length of time, or the number of a row. Two of them can be added, also where a program takes the sum for signed.
impl Put for u64 {
    fn put(&self, row: &mut Binder<'_, '_>) -> rusqlite::Result<()> {
        row.bind(self.cast_signed())
    }
}

/// The largest: as a moment, the year 2116.
const LARGEST: u64 = 1 << 62;

impl Take for u64 {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        row.integer(0..=LARGEST.cast_signed()).map(i64::cast_unsigned)
    }
}

/// A number of which all in a column come to no more than `MOST`. This is what makes every sum in a report right, whoever wrote the file: it adds
/// up a few columns at most, of [`super::MOST_RUNS`] recordings at most.
pub(super) struct Summed<const MOST: u64>(u64);

/// Things that were counted. No run comes to more than 2^53, up to which JSON's readers can tell numbers apart.
pub(super) type Count = Summed<{ 1 << 53 }>;
/// Lengths of time that are added up.
pub(super) type TimeSum = Summed<LARGEST>;

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

/// A difference of counts.
impl Take for i64 {
    const WIDTH: usize = 1;
    fn take(row: &mut Cursor<'_>) -> Result<Self, Wrong> {
        const LARGEST: i64 = 1 << 53;
        row.integer(-LARGEST..=LARGEST)
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
