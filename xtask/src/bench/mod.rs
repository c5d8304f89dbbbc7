//! What netwatch costs: set-up time, memory, throughput. Everything is measured in namespaces made here, beside what it is compared with.

mod memory;
mod set_up;
mod throughput;

use netwatch_tests::{Internet, Shape};

use crate::{Result, programs, setup};

/// Measures everything and prints it with the ratios.
pub fn run(count: usize) -> Result {
    setup::run()?;
    if let Some(why) = netwatch_tests::missing() {
        return Err(format!("cannot measure here: {why}"));
    }
    crate::build_object()?;
    let netwatch = programs::netwatch()?;
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("NETWATCH_BIN", netwatch) };
    let mut net = Internet::start(Shape::default());
    set_up::measure(&net, count)?;
    memory::measure(&net)?;
    net.start_iperf();
    throughput::measure(&net)
}

/// The middle of the values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
