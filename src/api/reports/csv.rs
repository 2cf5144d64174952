//! Tables as CSV (RFC 4180), safe to open: a cell that a spreadsheet would compute is text.

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use csv::{Terminator, Writer, WriterBuilder};

use crate::api::problem::{Answer, Problem};

/// A table that is being written.
pub(super) struct Table(Writer<Vec<u8>>);

impl Table {
    /// A table with these columns.
    pub(super) fn new(columns: &[String]) -> Answer<Self> {
        let mut table = Self(WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new()));
        table.row(columns)?;
        Ok(table)
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: &[String]) -> Answer<()> {
        self.0.write_record(cells.iter().map(|cell| plain(cell))).map_err(|_| Problem::internal())
    }

    /// The answer that a browser keeps as a file of this name.
    pub(super) fn answer(self, name: &'static str) -> Answer<Response> {
        let text = self.0.into_inner().map_err(|_| Problem::internal())?;
        let kept = format!("attachment; filename=\"{name}\"");
        let headers = [
            (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
            (header::CONTENT_DISPOSITION, kept),
        ];
        Ok((headers, text).into_response())
    }
}

/// A cell that spreadsheets take as it is: labels and names are other people's text.
fn plain(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A62.
    #[test]
    fn no_cell_is_a_formula_and_quotes_and_commas_stay_inside() {
        let cells = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a,\"b\"", "ä", ""].map(str::to_owned);
        let mut table = Table::new(&cells).unwrap();
        table.row(&cells).unwrap();
        let text = String::from_utf8(table.0.into_inner().unwrap()).unwrap();
        let line = "'=1+1,'+1,'-1,'@x,'\tx,\"'\rx\",\"a,\"\"b\"\"\",ä,\r\n";
        assert_eq!(text, [line, line].concat());
    }
}
