//! Parquet without Arrow: a schema, then row groups, column by column.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::column::{ExportCell, ExportColumn, ExportKind};

/// Rows per group. Readers skip whole groups, and the writer keeps one in memory.
const MAX_GROUP_ROWS: usize = 65_536;

pub(super) fn write<R>(columns: &[ExportColumn<R>], rows: &[R], out: &mut (dyn Write + Send)) -> Result<()> {
    let schema = Arc::new(parse_message_type(&schema(columns))?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("netwatch ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    for rows in rows.chunks(MAX_GROUP_ROWS) {
        let mut group = writer.next_row_group()?;
        for column in columns {
            let Some(mut into) = group.next_column()? else { break };
            write_column(column, rows, into.untyped())?;
            into.close()?;
        }
        group.close()?;
    }
    writer.close().map(drop)
}

/// The schema in the notation of Parquet
/// (https://parquet.apache.org/docs/file-format/types/logicaltypes/).
fn schema<R>(columns: &[ExportColumn<R>]) -> String {
    let mut text = "message netwatch {\n".to_owned();
    for column in columns {
        let kind = match column.kind {
            ExportKind::Text => ("BYTE_ARRAY", "(STRING)"),
            ExportKind::Integer => ("INT64", "(INTEGER(64,false))"),
            ExportKind::Time => ("INT64", "(TIMESTAMP(NANOS,true))"),
            ExportKind::Flag => ("BOOLEAN", ""),
        };
        writeln!(text, "OPTIONAL {} {} {};", kind.0, column.name, kind.1).expect("writing to a String does not fail");
    }
    text + "}"
}

fn write_column<R>(column: &ExportColumn<R>, rows: &[R], into: &mut ColumnWriter<'_>) -> Result<()> {
    let mut present = Vec::with_capacity(rows.len());
    let (mut texts, mut numbers, mut flags) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let cell = (column.value)(row);
        present.push(i16::from(cell != ExportCell::Absent));
        match cell {
            ExportCell::Absent => {}
            ExportCell::Text(text) => texts.push(ByteArray::from(text.as_bytes().to_vec())),
            // Parquet stores the bits of an unsigned number in a signed one.
            ExportCell::Number(number) => numbers.push(number.cast_signed()),
            ExportCell::Flag(flag) => flags.push(flag),
        }
    }
    match into {
        ColumnWriter::ByteArrayColumnWriter(writer) => writer.write_batch(&texts, Some(&present), None),
        ColumnWriter::Int64ColumnWriter(writer) => writer.write_batch(&numbers, Some(&present), None),
        ColumnWriter::BoolColumnWriter(writer) => writer.write_batch(&flags, Some(&present), None),
        _ => Ok(0),
    }
    .map(drop)
}
