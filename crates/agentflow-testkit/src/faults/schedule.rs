//! Faults drawn from a seed: the same seed gives the same faults.

use std::time::Duration;

/// What can happen to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each piece is late.
    Latency(Duration),
    /// Bytes a second of each direction of each connection.
    Bandwidth(u64),
    /// Nothing is forwarded for a while.
    Stall,
    /// Nobody listens for a while.
    Refuse,
    /// Present connections are closed.
    Cut,
    /// Present connections are reset.
    Reset,
    /// Present connections are silent for ever.
    HalfOpen,
}

/// A fault with its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub fault: Fault,
    /// How long, for faults that last.
    pub lasts: Duration,
    /// Calm afterwards.
    pub pause: Duration,
}

/// Random faults: an endless iterator; take as many as you need.
#[derive(Clone, Debug)]
pub struct Schedule {
    random: fastrand::Rng,
    /// Longest time of a fault.
    pub most_lasting: Duration,
    /// Longest calm.
    pub most_pause: Duration,
    /// Limit of a thin pipe, in bytes a second.
    pub bandwidth: u64,
    /// Whether connections may become half-open; whoever uses them needs timeouts then.
    pub half_open: bool,
}

impl Schedule {
    /// Faults of up to 20 ms with up to 20 ms of calm, 10 KB/s, half-open connections included.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            most_lasting: Duration::from_millis(20),
            most_pause: Duration::from_millis(20),
            bandwidth: 10 * 1024,
            half_open: true,
        }
    }

    fn time(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.f64())
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let kinds = if self.half_open { 7 } else { 6 };
        let fault = match self.random.u8(0..kinds) {
            0 => Fault::Latency(self.time(self.most_lasting)),
            1 => Fault::Bandwidth(self.bandwidth),
            2 => Fault::Stall,
            3 => Fault::Refuse,
            4 => Fault::Cut,
            5 => Fault::Reset,
            _ => Fault::HalfOpen,
        };
        let lasts = match fault {
            Fault::Cut | Fault::Reset | Fault::HalfOpen => Duration::ZERO,
            _ => self.time(self.most_lasting),
        };
        Some(Step {
            fault,
            lasts,
            pause: self.time(self.most_pause),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_faults_and_another_seed_others() {
        let draw = |seed| Schedule::new(seed).take(100).collect::<Vec<_>>();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let silent = draw(3).iter().any(|step| step.fault == Fault::HalfOpen);
        assert!(silent);
        let mut calm = Schedule::new(3);
        calm.half_open = false;
        assert!(calm.take(100).all(|step| step.fault != Fault::HalfOpen));
    }
}
