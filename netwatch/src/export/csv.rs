//! CSV with a header. Times are RFC 3339 in UTC, flags `true` and `false`, what is absent is empty,
//! and no text is a formula. Parquet has every text as it is; here, where somebody may look at it,
//! what a terminal would obey is escaped.

use std::io::{self, Write};

use super::column::{Cell, Column, Kind};
use crate::format::csv::said;
use crate::format::rfc3339;

pub(super) fn write<R>(columns: &[Column<R>], rows: &[R], out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(columns.iter().map(|column| column.name))?;
    for row in rows {
        for column in columns {
            match (column.value)(row) {
                Cell::Absent => writer.write_field("")?,
                Cell::Text(text) => writer.write_field(said(&text))?,
                Cell::Number(time) if column.kind == Kind::Time => writer.write_field(rfc3339(time))?,
                Cell::Number(number) => writer.write_field(number.to_string())?,
                Cell::Flag(flag) => writer.write_field(flag.to_string())?,
            }
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}
