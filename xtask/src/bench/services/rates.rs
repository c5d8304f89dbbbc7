//! Rates with netwatch as ratios to the rate without it in the same round, beside the ratio of two
//! rates without it.

use super::scene::{LOOPBACK, LoadNetwork, SERVER, ServicesScene, rate};
use crate::Result;
use crate::bench::median;

/// A kind of traffic, measured by the rate that its command prints.
struct Load {
    name: &'static str,
    /// The least ratio that the project accepts.
    goal: f64,
    command: String,
    rate: fn(&str) -> Result<f64>,
}

fn loads(scene: &ServicesScene) -> [Load; 4] {
    let on_link = scene.connections(&format!("to={SERVER} hosts=60 count=40000 pause=0"));
    let on_loopback = scene.connections(&format!("to={LOOPBACK} hosts=60 count=50000 pause=0 serve=yes"));
    [
        Load { name: "new connections, veth", goal: 0.9, command: on_link, rate },
        Load { name: "new connections, loopback", goal: 0.9, command: on_loopback, rate },
        Load { name: "datagrams to 1,000 ports", goal: 0.96, command: scene.datagrams(1_000_000), rate },
        Load { name: "redis, loopback", goal: 0.97, command: REDIS.to_owned(), rate: redis_rate },
    ]
}

/// Debian's redis-server and redis-benchmark: GET with 50 clients. Nothing is written to disk.
const REDIS: &str = "redis-server --port 6399 --bind 127.0.0.1 --save '' --appendonly no --dir / >/dev/null &
    until redis-cli -p 6399 ping >/dev/null 2>&1; do sleep 0.05; done
    redis-benchmark -p 6399 -t get -n 200000 -c 50 --csv; kill $!; wait $! || true";

/// Requests per second, as redis-benchmark prints them.
fn redis_rate(printed: &str) -> Result<f64> {
    let line = printed.lines().find_map(|line| line.strip_prefix("\"GET\",\""));
    let rate = line.and_then(|line| line.split('"').next()).and_then(|rate| rate.parse().ok());
    rate.ok_or_else(|| format!("no rate in {printed:?}"))
}

/// Without netwatch, with it, and once more without.
const NETWORKS: [LoadNetwork; 3] = [LoadNetwork::Plain, LoadNetwork::Watched, LoadNetwork::Plain];

/// Prints rates and paired ratios of every load whose name contains `only`.
pub fn measure(scene: &ServicesScene, rounds: usize, only: Option<&str>) -> Result {
    println!("rates per second, {rounds} rounds, order rotated; ratios to `without` in the same round");
    println!("  {:26} {:>9} {:>9} {:>7} {:>16} {:>7} {:>16}", "", "without", "netwatch", "ratio", "", "null", "");
    for load in loads(scene).iter().filter(|load| only.is_none_or(|part| load.name.contains(part))) {
        let mut rates = [const { Vec::new() }; NETWORKS.len()];
        for round in 0..rounds {
            for step in 0..NETWORKS.len() {
                let at = (round + step) % NETWORKS.len();
                rates[at].push((load.rate)(&scene.output(NETWORKS[at], &load.command)?)?);
            }
        }
        print(load, &rates);
    }
    Ok(())
}

fn print(load: &Load, [without, watched, null]: &[Vec<f64>; 3]) {
    let ratios = |rates: &[f64]| -> Vec<f64> { rates.iter().zip(without).map(|(one, other)| one / other).collect() };
    let range = |ratios: &[f64]| {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!("({least:.3} to {most:.3})")
    };
    let (with, without_again) = (ratios(watched), ratios(null));
    let ratio = median(with.clone());
    let verdict = if ratio >= load.goal { "met" } else { "missed" };
    println!(
        "  {:26} {:9.0} {:9.0} {ratio:7.3} {:>16} {:7.3} {:>16}  goal: at least {}: {verdict}",
        load.name,
        median(without.clone()),
        median(watched.clone()),
        range(&with),
        median(without_again.clone()),
        range(&without_again),
        load.goal
    );
}
