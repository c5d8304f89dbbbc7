//! The cost of a new connection in user space: a session receives the observations and increments
//! of short HTTP connections, as the kernel reports them, and is recorded. Run with `cargo bench
//! --package netwatch --bench session -- [CONNECTIONS]`.
//!
//! Prints CPU time per connection, of this thread and of the recording, and the growth of the
//! private memory. The work is the same in each run, so that a profiler can be used.

mod scene;

use std::error::Error;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, channel};

use netwatch::consumer::{Feed, StreamEnd};
use netwatch::flow::ObservationPoint;
use netwatch::record::{Destination, RecordingPlace};
use netwatch::session::{GrowthTiming, OutletId};
use netwatch::target::user::Identity;
use nix::time::{ClockId, clock_gettime};
use scene::{ConnectionScene, MAX_BATCH_EVENTS, PER_DRAIN, SECOND_NS, STARTED_NS};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The first few use memory that grows once.
const WARM_UP: u64 = PER_DRAIN;
const DEFAULT_CONNECTIONS: u64 = 200_000;

fn main() -> Result {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_CONNECTIONS);
    for (what, point) in [("link", ObservationPoint::Link), ("loopback", ObservationPoint::Loopback)] {
        measure(what, point, count)?;
    }
    Ok(())
}

fn measure(what: &str, point: ObservationPoint, count: u64) -> Result {
    let folder = tempfile::tempdir()?;
    let mut bench = Bench::start(point, folder.path().join("bench.netwatch"))?;
    bench.run(0..WARM_UP)?;
    let before = Spent::now()?;
    bench.run(WARM_UP..WARM_UP + count)?;
    let spent = Spent::now()?.since(&before);
    let each = |ns: u64| ns as f64 / 1e3 / count as f64;
    let mut line = format!("{what}: {:.2} µs per connection", each(spent.process_ns));
    let recording = spent.process_ns.saturating_sub(spent.thread_ns);
    write!(line, ", {:.2} metering and {:.2} recording", each(spent.thread_ns), each(recording))?;
    write!(line, "; {} bytes per connection", spent.private_bytes / count as i64)?;
    println!("{line}; {:.1} MiB private in all", Spent::now()?.private_bytes as f64 / f64::from(1 << 20));
    bench.finish()
}

/// What the process has used so far.
struct Spent {
    thread_ns: u64,
    process_ns: u64,
    private_bytes: i64,
}

impl Spent {
    fn now() -> Result<Self> {
        let clock = |id| -> Result<u64> {
            let time = clock_gettime(id)?;
            Ok(time.tv_sec() as u64 * SECOND_NS + time.tv_nsec() as u64)
        };
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
        let private = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")?.split_whitespace().next());
        Ok(Self {
            thread_ns: clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?,
            process_ns: clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
            private_bytes: private.ok_or("no private memory")?.parse::<i64>()? << 10,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            thread_ns: self.thread_ns - before.thread_ns,
            process_ns: self.process_ns - before.process_ns,
            private_bytes: self.private_bytes - before.private_bytes,
        }
    }
}

/// A session with a recording.
struct Bench {
    scene: ConnectionScene,
    outlet: OutletId,
    feed: Feed,
    has_room: Receiver<()>,
}

impl Bench {
    fn start(point: ObservationPoint, file: std::path::PathBuf) -> Result<Self> {
        let mut scene = ConnectionScene::new(point);
        let place = RecordingPlace::File(file, None);
        let destination = Destination { place, user: Identity::own()?, limit_bytes: 1 << 30 }.check()?;
        let recording = netwatch::consumer::recording::Recording::new(destination, "3f2a91bc".into(), STARTED_NS);
        let (room, has_room) = channel();
        let feed = Feed::start(recording, move || _ = room.send(()))?;
        let outlet = scene.session.attach(feed.wants());
        scene.start();
        Ok(Self { scene, outlet, feed, has_room })
    }

    /// Connections with these numbers.
    fn run(&mut self, numbers: std::ops::Range<u64>) -> Result {
        let mut first = numbers.start;
        while first < numbers.end {
            let end = numbers.end.min(first + PER_DRAIN);
            self.scene.second(first..end);
            self.deliver(GrowthTiming::Now);
            first = end;
        }
        // So that the CPU time of the recording is complete.
        while !self.scene.session.is_delivered(self.outlet) || self.has_room.recv_timeout(WAIT).is_ok() {
            self.deliver(GrowthTiming::Now);
        }
        Ok(())
    }

    fn deliver(&mut self, growth: GrowthTiming) {
        while self.feed.has_room() {
            let events = self.scene.session.deliver(self.outlet, MAX_BATCH_EVENTS, growth);
            if events.is_empty() {
                return;
            }
            self.feed.send(events);
        }
    }

    fn finish(self) -> Result {
        self.feed.close(StreamEnd::Abandoned).wait(std::time::Instant::now() + netwatch::consumer::FINISH_TIMEOUT)?;
        Ok(())
    }
}

/// After this time without a sign, the recording has written everything.
const WAIT: std::time::Duration = std::time::Duration::from_millis(500);
