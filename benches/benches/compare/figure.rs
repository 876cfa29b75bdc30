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

/// The value that `percent` of the figures don't exceed. 0 of none.
pub(crate) fn quantile(figures: &mut [f64], percent: usize) -> f64 {
    figures.sort_by(f64::total_cmp);
    let rank = (figures.len() * percent).div_ceil(100).max(1);
    figures.get(rank - 1).copied().unwrap_or(0.0)
}

/// Seconds, as milliseconds where they are few.
pub(crate) fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// A quotient.
pub(crate) fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// A share, in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Bytes, as MiB.
pub(crate) fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1_048_576.0)
}
