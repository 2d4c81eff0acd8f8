//! Tables: a header, a rule under each heading, columns two spaces apart. The same on a terminal
//! and in a pipe, but for colour. Cells are never cut or wrapped: an address in two pieces cannot be
//! copied.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, Table as Layout};

use super::clean;

pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a row of as many cells as there are headings.
    pub(crate) fn cells(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, with a line break after every line.
    pub(super) fn render(&self, terminal: bool) -> String {
        let mut layout = Layout::new();
        layout.load_style(NOTHING);
        if terminal {
            layout.enforce_styling();
        } else {
            layout.force_no_tty();
        }
        layout.add_row(self.headings.iter().map(Cell::new));
        layout.add_row(self.headings.iter().map(|heading| "-".repeat(heading.len())));
        for row in &self.rows {
            layout.add_row(row.iter().map(|text| styled(&clean(text), terminal)));
        }
        for column in layout.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = layout.trim_fmt();
        text.push('\n');
        text
    }
}

fn styled(text: &str, terminal: bool) -> Cell {
    let cell = Cell::new(text);
    match text {
        _ if !terminal => cell,
        "running" | "healthy" | "completed" => cell.fg(Color::Green),
        "pending" | "deploying" => cell.fg(Color::Yellow),
        "failed" | "unhealthy" => cell.fg(Color::Red),
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_have_no_trailing_space() {
        let mut table = Table::new(["Action", "Status"]);
        table.row(["create".to_owned(), "completed".to_owned()]);
        table.row(["reactivate".to_owned(), "failed".to_owned()]);
        assert_eq!(
            table.render(false),
            "Action      Status\n\
             ------      ------\n\
             create      completed\n\
             reactivate  failed\n"
        );
        assert!(table.render(true).contains("\u{1b}["));
    }
}
