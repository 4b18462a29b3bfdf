//! The memory of a process over time.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::streams::resident_mb;

/// Part of the time that is warm-up.
const WARM_UP: f64 = 0.25;

/// Looks at one process.
pub struct Watch {
    pid: u32,
    started: Instant,
    length: Duration,
    /// Minutes since the start, and megabytes.
    looks: Vec<(f64, f64)>,
}

impl Watch {
    pub fn new(pid: u32, length: Duration) -> Self {
        Self {
            pid,
            started: Instant::now(),
            length,
            looks: Vec::new(),
        }
    }

    pub fn look(&mut self) -> Result<()> {
        let minutes = self.started.elapsed().as_secs_f64() / 60.0;
        self.looks.push((minutes, resident_mb(self.pid)?));
        Ok(())
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    /// Looks after the warm-up.
    fn warm(&self) -> &[(f64, f64)] {
        let from = self.length.as_secs_f64() / 60.0 * WARM_UP;
        let cold = self.looks.partition_point(|(minutes, _)| *minutes < from);
        &self.looks[cold..]
    }

    pub fn warm_mb(&self) -> f64 {
        self.warm().first().map_or(f64::NAN, |look| look.1)
    }

    pub fn last_mb(&self) -> f64 {
        self.looks.last().map_or(f64::NAN, |look| look.1)
    }

    pub fn most_mb(&self) -> f64 {
        self.looks.iter().map(|look| look.1).fold(0.0, f64::max)
    }

    /// The straight line through the looks after the warm-up, by least squares.
    pub fn slope_mb_per_minute(&self) -> f64 {
        slope(self.warm())
    }
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if spread > 0.0 { along / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_line_has_its_slope_and_noise_has_none() {
        let line: Vec<(f64, f64)> = (0..10)
            .map(|n| (f64::from(n), 5.0 + 2.0 * f64::from(n)))
            .collect();
        assert!((slope(&line) - 2.0).abs() < 1e-9);
        let noise: Vec<(f64, f64)> = (0..100).map(|n| (f64::from(n), f64::from(n % 2))).collect();
        assert!(slope(&noise).abs() < 0.01);
    }
}
