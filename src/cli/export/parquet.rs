//! Parquet files of typed columns.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::rows::{Cell, Column, Kind};

/// Number of rows that are written together.
const GROUP: usize = 1 << 16;

/// Writer of a Parquet file. All columns are optional: an unknown value is null.
pub struct Parquet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

impl<W: Write + Send> Parquet<W> {
    /// Creates a writer and writes the file's header.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn new(out: W, columns: &'static [Column]) -> anyhow::Result<Parquet<W>> {
        let field = |(name, kind): &Column| {
            let kind = match kind {
                Kind::Int => "INT64",
                Kind::Float => "DOUBLE",
                Kind::Bool => "BOOLEAN",
                Kind::Text => return format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
            };
            format!("OPTIONAL {kind} {name};")
        };
        let schema = format!(
            "message schema {{ {} }}",
            columns.iter().map(field).collect::<Vec<_>>().join(" ")
        );
        let schema = Arc::new(parse_message_type(&schema).context("the schema is invalid")?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        Ok(Parquet { writer, columns, rows: Vec::new() })
    }

    /// Adds a row, which has a cell for each column.
    ///
    /// # Errors
    /// If the output can't be written, or a cell is not of its column's type.
    pub fn row(&mut self, row: Vec<Cell>) -> anyhow::Result<()> {
        self.rows.push(row);
        if self.rows.len() >= GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        for (i, (name, kind)) in self.columns.iter().enumerate() {
            let cells = rows.iter().map(|row| row.get(i));
            // A cell of another type would shift all values below it.
            let wrong = || format!("a value of the column {name} is not of its type");
            match kind {
                Kind::Int => column::<Int64Type>(
                    &mut group,
                    cells.map(
                        |cell| if let Some(Cell::Int(v)) = cell { Ok(*v) } else { bail!(wrong()) },
                    ),
                )?,
                Kind::Float => column::<DoubleType>(
                    &mut group,
                    cells.map(|cell| {
                        if let Some(Cell::Float(v)) = cell { Ok(*v) } else { bail!(wrong()) }
                    }),
                )?,
                Kind::Bool => column::<BoolType>(
                    &mut group,
                    cells.map(
                        |cell| if let Some(Cell::Bool(v)) = cell { Ok(*v) } else { bail!(wrong()) },
                    ),
                )?,
                Kind::Text => column::<ByteArrayType>(
                    &mut group,
                    cells.map(|cell| match cell {
                        Some(Cell::Text(v)) => {
                            Ok(v.as_ref().map(|text| ByteArray::from(text.as_bytes().to_vec())))
                        }
                        _ => bail!(wrong()),
                    }),
                )?,
            }
        }
        group.close()?;
        Ok(())
    }

    /// Writes the rows left and the end of the file.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

/// Writes one column of a row group.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    cells: impl Iterator<Item = anyhow::Result<Option<T::T>>>,
) -> anyhow::Result<()> {
    let (mut values, mut present) = (Vec::new(), Vec::new());
    for cell in cells {
        let cell = cell?;
        present.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    let mut column = group.next_column()?.context("the file has too few columns")?;
    column.typed::<T>().write_batch(&values, Some(&present), None)?;
    column.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn rows_come_back_with_their_types_and_nulls() {
        const COLUMNS: &[Column] =
            &[("a", Kind::Int), ("b", Kind::Float), ("c", Kind::Bool), ("d", Kind::Text)];
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = Parquet::new(file.try_clone().unwrap(), COLUMNS).unwrap();
        let row = |i: i64| {
            let text = (i % 2 == 0).then(|| format!("é{i}"));
            vec![
                Cell::Int(Some(i)),
                Cell::Float((i > 0).then_some(i as f64 / 3.0)),
                Cell::Bool(Some(i == 1)),
                Cell::Text(text),
            ]
        };
        (0..3).for_each(|i| writer.row(row(i)).unwrap());
        writer.finish().unwrap();
        file.flush().unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[2].get_long(0).unwrap(), rows[2].get_double(1).unwrap()), (2, 2.0 / 3.0));
        assert!(
            rows[0].get_double(1).is_err()
                && rows[1].get_bool(2).unwrap()
                && rows[1].get_string(3).is_err()
        );
        assert_eq!(rows[2].get_string(3).unwrap(), "é2");
    }

    #[test]
    fn a_cell_of_another_type_is_an_error() {
        let mut writer = Parquet::new(Vec::new(), &[("a", Kind::Int)]).unwrap();
        writer.row(vec![Cell::Bool(None)]).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("column a"));
    }
}
