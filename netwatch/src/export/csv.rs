//! CSV with a header. Times are RFC 3339 in UTC, flags `true` and `false`, absent values empty.
//! Text is escaped for terminals, and never evaluated as a formula. Parquet stores every text
//! unchanged.

use std::io::{self, Write};

use super::column::{ExportCell, ExportColumn, ExportKind};
use crate::format::csv::safe_text;
use crate::format::rfc3339;

pub(super) fn write<R>(columns: &[ExportColumn<R>], rows: &[R], out: &mut dyn Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(columns.iter().map(|column| column.name))?;
    for row in rows {
        for column in columns {
            match (column.value)(row) {
                ExportCell::Absent => writer.write_field("")?,
                ExportCell::Text(text) => writer.write_field(safe_text(&text))?,
                ExportCell::Number(time) if column.kind == ExportKind::Time => writer.write_field(rfc3339(time))?,
                ExportCell::Number(number) => writer.write_field(number.to_string())?,
                ExportCell::Flag(flag) => writer.write_field(flag.to_string())?,
            }
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()
}
