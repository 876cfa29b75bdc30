//! Tables that fit the terminal, and are as wide as they need to be elsewhere.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table as Comfy};

/// A column's heading, and on which side its content stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    /// Text.
    Left(&'static str),
    /// Numbers and sizes.
    Right(&'static str),
}

/// Rows under headings.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let headings = columns.iter().map(|column| match column {
        Column::Left(heading) | Column::Right(heading) => *heading,
    });
    let mut table = empty();
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    for (column, kind) in table.column_iter_mut().zip(columns) {
        if let Column::Right(_) = kind {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    render(table)
}

/// One thing's properties: a name and a value in each line.
pub(crate) fn properties(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = empty();
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    render(table)
}

fn empty() -> Comfy {
    let mut table = Comfy::new();
    table.load_preset(NOTHING);
    if let Some((width, _)) = terminal_size::terminal_size_of(std::io::stdout()) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width.0);
    }
    table
}

fn render(mut table: Comfy) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // The last column is padded to its width, which nobody wants to copy.
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_nothing_trails() {
        let rows = [vec!["pg".to_owned(), "100G".to_owned()], vec!["ledger".to_owned(), "4K".to_owned()]];
        assert_eq!(
            table(&[Column::Left("NAME"), Column::Right("SIZE")], rows),
            "NAME    SIZE\npg      100G\nledger    4K\n"
        );
        assert_eq!(
            properties([("name", "pg".to_owned()), ("size", "4K".to_owned())]),
            "name  pg\nsize  4K\n"
        );
    }
}
