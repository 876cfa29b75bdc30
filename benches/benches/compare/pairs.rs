//! Interleaved pairs: raw, firn, raw, firn and so on. The machine has fast and slow minutes; a pair shares one.

use anyhow::Result;

use crate::figure::median;
use crate::settings::Settings;
use crate::table::Row;

/// The figures of one side against those of another, pair by pair.
pub(crate) struct Pairs {
    bases: Vec<f64>,
    figures: Vec<f64>,
}

impl Pairs {
    /// Measures both sides in turn.
    pub(crate) fn measure(
        settings: &Settings,
        mut base: impl FnMut() -> Result<f64>,
        mut firn: impl FnMut() -> Result<f64>,
    ) -> Result<Self> {
        let mut pairs = Self::new();
        for _ in 0..settings.rounds {
            let base = base()?;
            pairs.add(base, firn()?);
        }
        Ok(pairs)
    }

    pub(crate) fn new() -> Self {
        Self { bases: Vec::new(), figures: Vec::new() }
    }

    pub(crate) fn add(&mut self, base: f64, figure: f64) {
        println!("    {base:>12.0} {figure:>12.0}  {:.2}", figure / base);
        self.bases.push(base);
        self.figures.push(figure);
    }

    /// The median of the pairs' ratios.
    pub(crate) fn ratio(&self) -> f64 {
        median(&self.ratios())
    }

    fn ratios(&self) -> Vec<f64> {
        self.figures.iter().zip(&self.bases).map(|(figure, base)| figure / base).collect()
    }

    /// A row that is met when the ratio is at least `target`.
    pub(crate) fn row(&self, work: &str, target: f64, show: fn(f64) -> String) -> Row {
        self.row_if(work, Some(target), show)
    }

    /// A row that has a target, or none.
    pub(crate) fn row_if(&self, work: &str, target: Option<f64>, show: fn(f64) -> String) -> Row {
        let ratios = self.ratios();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        Row {
            work: work.to_owned(),
            base: show(median(&self.bases)),
            firn: show(median(&self.figures)),
            measure: format!("{:.2} ({least:.2} to {most:.2})", self.ratio()),
            target: target.map_or_else(String::new, |target| format!("at least {target:.2}")),
            met: target.map(|target| self.ratio() >= target),
        }
    }
}
