//! Reads and writes the rows of tables.

use std::collections::HashMap;

use rusqlite::{Connection, Row, Statement};

use super::cell::{Binder, Cursor, Put, Sums, Take, Wrong};
use super::schema;

/// Writes rows of one table.
pub(super) struct Rows<'c> {
    connection: &'c Connection,
    table: &'static str,
    /// Prepared for the first row: most tables of a short run stay empty.
    statement: Option<Statement<'c>>,
}

impl<'c> Rows<'c> {
    /// Adds rows, or replaces those with the same key.
    pub fn of(connection: &'c Connection, table: &'static str) -> Self {
        Self { connection, table, statement: None }
    }

    /// Writes one row of these values.
    pub fn put(&mut self, values: &[&dyn Put]) -> rusqlite::Result<()> {
        let statement = match &mut self.statement {
            Some(statement) => statement,
            none => none.insert(prepare(self.connection, self.table)?),
        };
        let mut row = Binder::new(statement);
        values.iter().try_for_each(|value| value.put(&mut row))?;
        row.execute().map(drop)
    }
}

fn prepare<'c>(connection: &'c Connection, table: &str) -> rusqlite::Result<Statement<'c>> {
    let places = vec!["?"; schema::columns(table)].join(",");
    connection.prepare(&format!("INSERT OR REPLACE INTO {table} VALUES ({places})"))
}

/// Writes one row.
pub(super) fn put(connection: &Connection, table: &'static str, values: &[&dyn Put]) -> rusqlite::Result<()> {
    Rows::of(connection, table).put(values)
}

/// Empties a table.
pub(super) fn clear(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    connection.execute(&format!("DELETE FROM {table}"), ()).map(drop)
}

/// Reads all rows of a table, ordered by `by`.
pub(super) fn read<T>(
    connection: &Connection,
    table: &str,
    by: &str,
    mut take: impl FnMut(&mut Cursor<'_>) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY {by}"))?;
    let mut rows = statement.query(())?;
    let (mut all, mut sums) = (Vec::new(), Sums::default());
    let mut room = super::file::size(connection)?;
    while let Some(row) = rows.next()? {
        room = room
            .checked_sub(min_bytes(row)?)
            .ok_or_else(|| Wrong::Value(format!("table {table} has more data than the file")))?;
        let read = take(&mut Cursor::new(row, &mut sums));
        all.push(read.map_err(|wrong| in_table(table, wrong))?);
    }
    Ok(all)
}

/// Minimum bytes of a row in the file. In a damaged file the same pages may be part of many tables,
/// or of one table many times, so that its rows never end.
fn min_bytes(row: &Row<'_>) -> Result<u64, Wrong> {
    let columns = row.as_ref().column_count();
    (0..columns).try_fold(1, |sum, column| Ok(sum + row.get_ref(column)?.as_bytes().map_or(0, <[u8]>::len) as u64))
}

/// Reads the row of a table that has exactly one.
pub(super) fn read_one<T>(
    connection: &Connection,
    table: &str,
    take: impl FnMut(&mut Cursor<'_>) -> Result<T, Wrong>,
) -> Result<T, Wrong> {
    read_first(connection, table, take)?.ok_or_else(|| Wrong::Value(format!("{table} is empty")))
}

/// Reads the row of a table that has at most one.
pub(super) fn read_first<T>(
    connection: &Connection,
    table: &str,
    take: impl FnMut(&mut Cursor<'_>) -> Result<T, Wrong>,
) -> Result<Option<T>, Wrong> {
    Ok(read(connection, table, "1 LIMIT 1", take)?.pop())
}

/// Reads a table whose first column is the number of the row's owner, and the second the position;
/// returns the rows by owner.
pub(super) fn read_parts<T: Take>(connection: &Connection, table: &str) -> Result<HashMap<u64, Vec<T>>, Wrong> {
    let rows = read(connection, table, "1, 2", |row| {
        let (owner, _position): (u64, u64) = (row.take()?, row.take()?);
        Ok((owner, row.take::<T>()?))
    })?;
    let mut parts: HashMap<u64, Vec<T>> = HashMap::new();
    for (owner, part) in rows {
        parts.entry(owner).or_default().push(part);
    }
    Ok(parts)
}

fn in_table(table: &str, wrong: Wrong) -> Wrong {
    match wrong {
        Wrong::Value(what) => Wrong::Value(format!("in table {table}, {what}")),
        sqlite => sqlite,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_rows_than_the_file_can_hold_are_damage() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let db = Connection::open(file.path()).expect("opened");
        let note = "CREATE TABLE page (a); CREATE TEMP VIEW note AS
                    WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row LIMIT 100000) SELECT n, 'x' FROM row";
        db.execute_batch(note).expect("made");
        let size = std::fs::metadata(file.path()).expect("there").len();
        super::super::file::keep_size(&db, size).expect("kept");
        let mut rows = 0;
        let wrong = read(&db, "note", "1", |_| {
            rows += 1;
            Ok(())
        });
        let Err(Wrong::Value(what)) = wrong else { panic!("{wrong:?}") };
        assert_eq!(what, "table note has more data than the file");
        assert_eq!(rows, size / 2);
    }
}
