//! Statistics of small samples: quartiles and outliers, the difference of two samples with its
//! confidence interval, and whether it can be chance. Random numbers come from a fixed seed, so
//! that equal samples give equal results.

mod bootstrap;
mod distribution;
mod rank;
mod trend;

pub use bootstrap::{Bounds, MedianDifference, difference};
pub use distribution::Distribution;
pub use rank::{false_discoveries, mann_whitney};
pub use trend::rising;

/// The probability that an interval contains the true value.
pub const CONFIDENCE: f64 = 0.95;

/// The accepted probability of reporting a difference where there is none.
pub const SIGNIFICANCE: f64 = 0.05;

/// Random numbers for the tests: samples of known distributions.
#[cfg(test)]
mod testing {
    /// A sample of the normal distribution with mean 0 and deviation 1 (Box and Muller).
    pub fn normal(random: &mut fastrand::Rng, count: usize) -> Vec<f64> {
        let mut one = || {
            let (radius, angle) = ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), std::f64::consts::TAU * random.f64());
            radius * angle.cos()
        };
        (0..count).map(|_| one()).collect()
    }
}
