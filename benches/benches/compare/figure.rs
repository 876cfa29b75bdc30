//! Figures for people: medians and how they are written.

/// A count as a number to divide; 53 bits are enough for what is shown here.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The middle one, or the mean of the middle two. 0 of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Operations a second.
pub(crate) fn rate(rate: f64) -> String {
    if rate >= 10_000.0 { format!("{:.1} k/s", rate / 1e3) } else { format!("{:.2} k/s", rate / 1e3) }
}

/// Bytes a second.
pub(crate) fn bandwidth(rate: f64) -> String {
    format!("{:.2} GB/s", rate / 1e9)
}
