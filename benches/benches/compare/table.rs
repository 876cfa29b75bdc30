//! The table that is printed at the end.

/// One line of it.
pub(crate) struct Row {
    pub(crate) work: String,
    /// What it is compared with: fio on a raw file, or the engine in another state.
    pub(crate) base: String,
    pub(crate) firn: String,
    /// What the target speaks of.
    pub(crate) measure: String,
    pub(crate) target: String,
    /// Whether the target is met; `None` for what has none.
    pub(crate) met: Option<bool>,
}

impl Row {
    /// A row of one figure, met when it is at most `target`.
    pub(crate) fn at_most(work: &str, figure: f64, target: f64, show: fn(f64) -> String) -> Self {
        Self {
            work: work.to_owned(),
            base: String::new(),
            firn: show(figure),
            measure: String::new(),
            target: format!("at most {}", show(target)),
            met: Some(figure <= target),
        }
    }

    /// A row of one figure without a target.
    pub(crate) fn noted(work: &str, figure: String) -> Self {
        Self {
            work: work.to_owned(),
            base: String::new(),
            firn: figure,
            measure: String::new(),
            target: String::new(),
            met: None,
        }
    }
}

const HEADS: [&str; 6] = ["work", "raw or before", "firn", "measure", "target", "met"];

/// Prints the rows under each other, each column as wide as it needs to be.
pub(crate) fn print(rows: &[Row]) {
    let cells = |row: &Row| -> [String; 6] {
        let met = match row.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        [&row.work, &row.base, &row.firn, &row.measure, &row.target, met].map(|cell| cell.to_owned())
    };
    let lines: Vec<[String; 6]> =
        std::iter::once(HEADS.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let widths: Vec<usize> = (0..6)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (index, line) in lines.iter().enumerate() {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", padded.join(" | "));
        if index == 0 {
            println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
        }
    }
}
