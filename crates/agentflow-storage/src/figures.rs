//! Figures that a backend tells about itself, for whoever exports them.

/// A source of figures.
pub trait Figures: Send + Sync {
    /// The figures as they are now, each time the same ones in the same order. Does no I/O.
    fn figures(&self) -> Vec<Figure>;
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name: small letters and `_`, the unit last, as in Prometheus without a prefix.
    pub name: &'static str,
    /// What it tells, in one line.
    pub help: &'static str,
    /// What it is.
    pub reading: Reading,
}

/// What a figure is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// A level, which rises and falls.
    Level(u64),
    /// A count since the start.
    Count(u64),
    /// How often which values occurred.
    Spread(Spread),
}

/// How often which values occurred since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// Upper ends of the ranges, rising; a value that is equal belongs below.
    pub bounds: &'static [f64],
    /// Values in each range; one more than `bounds`, for those above all.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
}

impl Figure {
    /// A level.
    #[must_use]
    pub fn level(name: &'static str, help: &'static str, value: usize) -> Self {
        Self {
            name,
            help,
            reading: Reading::Level(value as u64),
        }
    }

    /// A count.
    #[must_use]
    pub fn count(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            reading: Reading::Count(value),
        }
    }
}
