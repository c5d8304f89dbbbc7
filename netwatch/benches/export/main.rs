//! What consumers cost and lose: 20,000 finished connections a second are fed to each in turn, with
//! a receiver that reads everything. Run with `cargo xtask bench export -- [--seconds N]`.
//!
//! Prints for each consumer the connections that it and the receiver did not take, the CPU time of
//! its threads, the growth of the private memory, and bytes per connection: of messages with the
//! headers of HTTP, without those of TCP and UDP.

#[path = "../scene/mod.rs"]
mod scene;

mod receivers;

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use netwatch::consumer::events::EventLines;
use netwatch::consumer::ipfix::{Ipfix, IpfixDestination, IpfixTarget};
use netwatch::consumer::metrics::{Metrics, MetricsListener};
use netwatch::consumer::otlp::{Otlp, OtlpOptions, OtlpReceiver, OtlpTarget};
use netwatch::consumer::{Consumer, FINISH_TIMEOUT, Feed, StreamEnd};
use netwatch::flow::ObservationPoint;
use netwatch::record::{Destination, RecordingPlace};
use netwatch::session::{GrowthTiming, OutletId};
use netwatch::target::user::Identity;
use nix::unistd::{Gid, Uid};
use receivers::{RECEIVER, Received};
use scene::{ConnectionScene, MAX_BATCH_EVENTS, PER_DRAIN, STARTED_NS};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const DEFAULT_SECONDS: u64 = 60;
const INTERVAL: Duration = Duration::from_secs(1);
const CONSUMERS: [&str; 8] =
    ["events file", "IPFIX file", "IPFIX UDP", "IPFIX TCP", "OTLP", "OTLP gzip", "metrics", "recording"];

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| arguments.iter().position(|word| word == flag).and_then(|at| arguments.get(at + 1));
    let seconds = value("--seconds").map_or(Ok(DEFAULT_SECONDS), |text| text.parse())?;
    let only = value("--consumer").map_or("", String::as_str);
    println!("{PER_DRAIN} finished connections a second for {seconds} s to each consumer");
    println!(
        "{:<12} {:>10} {:>10} {:>9} {:>11} {:>9} {:>11}  notes",
        "consumer", "sent", "lost", "CPU %", "µs/flow", "MiB", "bytes/flow"
    );
    for name in CONSUMERS.into_iter().filter(|name| name.contains(only)) {
        measure(name, seconds)?;
    }
    Ok(())
}

/// Feeds one consumer and prints its line.
fn measure(name: &str, seconds: u64) -> Result {
    let folder = tempfile::tempdir()?;
    let received = Received::default();
    let mut load = ConsumerLoad::start(name, folder.path(), &received)?;
    // Memory that is allocated once, and the connection to the receiver.
    load.second(0)?;
    load.settle();
    let (cpu, memory, bytes) = (consumer_ns()?, private_bytes()?, load.bytes(&received)?);
    let (began, mut peak) = (Instant::now(), memory);
    for second in 1..=seconds {
        load.second(second)?;
        load.serve_until(began + INTERVAL * second as u32);
        peak = peak.max(private_bytes()?);
    }
    let late = began.elapsed().saturating_sub(INTERVAL * seconds as u32);
    load.settle();
    let flows = seconds * PER_DRAIN;
    let (spent, grown) = (consumer_ns()?.saturating_sub(cpu), peak.saturating_sub(memory));
    let bytes = load.bytes(&received)? - bytes;
    let LoadOutcome { missed, discarded, failure } = load.finish();
    let cpu = spent as f64 / began.elapsed().as_nanos() as f64 * 100.0;
    let (each_us, each_bytes) = (spent as f64 / 1e3 / flows as f64, bytes as f64 / flows as f64);
    let mut notes: Vec<String> = discarded.into_iter().chain(failure).collect();
    notes.extend((late > INTERVAL).then(|| format!("the load was {:.1} s late", late.as_secs_f64())));
    println!(
        "{name:<12} {flows:>10} {missed:>10} {cpu:>9.1} {each_us:>11.2} {:>9.1} {each_bytes:>11.1}  {}",
        grown as f64 / f64::from(1 << 20),
        notes.join("; ")
    );
    Ok(())
}

/// A session with one consumer.
struct ConsumerLoad {
    scene: ConnectionScene,
    outlet: OutletId,
    feed: Feed,
    has_room: Receiver<()>,
    /// A file that the consumer writes.
    file: Option<std::path::PathBuf>,
}

struct LoadOutcome {
    missed: u64,
    discarded: Option<String>,
    failure: Option<String>,
}

impl ConsumerLoad {
    fn start(name: &str, folder: &Path, received: &Received) -> Result<Self> {
        let owner = (Uid::effective(), Gid::effective());
        let path = folder.join("out");
        let ipfix = |target: String| -> Result<Ipfix> {
            Ok(Ipfix::new(IpfixDestination::open(&IpfixTarget::parse(&target)?, owner)?, 1))
        };
        match name {
            "events file" => Self::with(EventLines::new(File::create(&path)?, true).to(&path), Some(path)),
            "IPFIX file" => Self::with(ipfix(format!("file:{}", path.display()))?, Some(path)),
            "IPFIX UDP" => Self::with(ipfix(format!("udp:{}", received.udp()?))?, None),
            "IPFIX TCP" => Self::with(ipfix(format!("tcp:{}", received.tcp()?))?, None),
            "OTLP" | "OTLP gzip" => {
                let target = OtlpTarget::parse(&format!("http://{}", received.http()?))?;
                let options = OtlpOptions { compresses: name == "OTLP gzip", ..OtlpOptions::default() };
                Self::with(Otlp::new(OtlpReceiver::find(&target, &options, owner)?), None)
            }
            "metrics" => {
                let listener = MetricsListener::bind("127.0.0.1:0".parse()?)?;
                received.scrape(listener.address())?;
                Self::with(Metrics::new(listener, Vec::new()), None)
            }
            _ => {
                let place = RecordingPlace::File(path.clone(), None);
                let destination = Destination { place, user: Identity::own()?, limit_bytes: 1 << 30 }.check()?;
                let id = "3f2a91bc".to_owned();
                Self::with(netwatch::consumer::recording::Recording::new(destination, id, STARTED_NS), Some(path))
            }
        }
    }

    fn with(consumer: impl Consumer, file: Option<std::path::PathBuf>) -> Result<Self> {
        let mut scene = ConnectionScene::new(ObservationPoint::Link);
        let (room, has_room) = channel();
        let feed = Feed::start(consumer, move || _ = room.send(()))?;
        let outlet = scene.session.attach(feed.wants());
        scene.start();
        Ok(Self { scene, outlet, feed, has_room, file })
    }

    /// The connections of the second with this number, all at its beginning: a drain reports a
    /// second at once.
    fn second(&mut self, number: u64) -> Result {
        self.scene.second(number * PER_DRAIN..(number + 1) * PER_DRAIN);
        self.deliver();
        Ok(())
    }

    fn deliver(&mut self) {
        while self.feed.has_room() {
            let events = self.scene.session.deliver(self.outlet, MAX_BATCH_EVENTS, GrowthTiming::Now);
            if events.is_empty() {
                return;
            }
            self.feed.send(events);
        }
    }

    /// Delivers whenever the consumer has room.
    fn serve_until(&mut self, end: Instant) {
        while self.has_room.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {
            self.deliver();
        }
        self.deliver();
    }

    /// Waits until the consumer has taken everything, for at most ten seconds.
    fn settle(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        let quiet = Duration::from_millis(500);
        while Instant::now() < end && !self.feed.has_failed() {
            let has_news = self.has_room.recv_timeout(quiet).is_ok();
            self.deliver();
            if !has_news && self.scene.session.is_delivered(self.outlet) {
                return;
            }
        }
    }

    fn bytes(&self, received: &Received) -> Result<u64> {
        let file = self.file.as_ref().map_or(Ok(0), |file| fs::metadata(file).map(|file| file.len()));
        Ok(file.unwrap_or(0) + received.bytes())
    }

    fn finish(mut self) -> LoadOutcome {
        let missed = self.scene.session.take_missed(self.outlet);
        let discarded = self.feed.report_discards();
        let failure = self.feed.take_failure();
        let closed = self.feed.close(StreamEnd::Abandoned).wait(Instant::now() + FINISH_TIMEOUT);
        // A recording is not complete without the end of its run.
        let failure = failure.or(closed.err()).map(|error| error.to_string());
        let failure = failure.filter(|_| self.file.is_none());
        LoadOutcome { missed: missed.events + missed.flows.counts().flows, discarded, failure }
    }
}

/// CPU time of all threads but this one and those of receivers.
fn consumer_ns() -> Result<u64> {
    let own = nix::unistd::gettid().to_string();
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")?.flatten() {
        // A thread may end meanwhile.
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if task.file_name().to_string_lossy() == own || read("comm").trim() == RECEIVER {
            continue;
        }
        sum += read("schedstat").split_whitespace().next().map_or(Ok(0), str::parse::<u64>)?;
    }
    Ok(sum)
}

/// The private memory of this process.
fn private_bytes() -> Result<u64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let private = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")?.split_whitespace().next());
    Ok(private.ok_or("no private memory")?.parse::<u64>()? << 10)
}
