//! A session with a recording as its consumer, driven by a test instead of a meter.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use netwatch::consumer::recording::Recording;
use netwatch::consumer::{FINISH_TIMEOUT, Feed, StreamEnd};
use netwatch::flow::{FlowKey, Increment, InterfaceCounters};
use netwatch::name::Hosts;
use netwatch::process::{
    Attribution, Image, LiveProcess, Origin, ProcessAction, ProcessEvent, SocketOperation, SocketUse, SystemView,
};
use netwatch::record::{Destination, RecordingPlace};
use netwatch::report::{EndedBy, ExitStatus, Report};
use netwatch::session::{GrowthTiming, IsolatedScope, Observed, OutletId, Session, SessionConfig};
use netwatch::target::user::Identity;

use super::{START_NS, facts, table};

/// A machine on which no process can be looked up.
struct Nothing;

impl SystemView for Nothing {
    fn process(&mut self, _: u32) -> Option<LiveProcess> {
        None
    }

    fn is_bound(&mut self, _: &str) -> Option<bool> {
        None
    }
}

/// A session that is recorded.
pub struct Metered {
    pub session: Session<IsolatedScope>,
    outlet: OutletId,
    feed: Feed,
    has_room: Receiver<()>,
    cookies: u64,
}

impl Metered {
    /// A session of `curl` that tracks at most `max_flows` flows, recorded to a file.
    pub fn start(path: &Path, max_flows: usize) -> Self {
        Self::start_limited(path, max_flows, 1 << 30)
    }

    /// The same with this size limit of the recording.
    pub fn start_limited(path: &Path, max_flows: usize, limit_bytes: u64) -> Self {
        let facts = facts(&table([]), &["curl"]);
        let scope = IsolatedScope { run: facts.run, interface: facts.interface, dns: facts.dns };
        let hosts = Hosts::parse("198.51.100.99 printer.example");
        let config = SessionConfig { max_flows, hosts, attribution: Attribution::On, ..SessionConfig::default() };
        let mut session = Session::new(scope, config);
        session.start(START_NS);
        let place = RecordingPlace::File(path.to_owned(), None);
        let user = Identity::own().expect("a user");
        let destination = Destination { place, user, limit_bytes }.check().expect("writable");
        let (room, has_room) = mpsc::channel();
        let recording = Recording::new(destination, "3f2a91bc".into(), START_NS);
        let feed = Feed::start(recording, move || _ = room.send(())).expect("a thread");
        let outlet = session.attach(feed.wants());
        Self { session, outlet, feed, has_room, cookies: 0 }
    }

    pub fn apply(&mut self, increments: impl IntoIterator<Item = Increment>) {
        increments.into_iter().for_each(|increment| self.session.apply(increment));
    }

    /// A process runs a program.
    pub fn exec(&mut self, pid: u32, comm: &str) {
        let image = Image {
            comm: comm.into(),
            exe: Some(format!("/usr/bin/{comm}")),
            cmdline: Some(vec![comm.into(), "-v".into()]),
            ..Image::default()
        };
        let origin = Origin { start_ns: START_NS, ppid: 1, maker: 1 };
        self.process_event(pid, ProcessAction::Exec(origin, image));
    }

    /// A process sends the packets of a flow.
    pub fn send(&mut self, pid: u32, flow: FlowKey) {
        self.cookies += 1;
        let cookie = self.cookies;
        let socket = SocketUse { cookie, netns: 0, protocol: None, address: None };
        self.process_event(pid, ProcessAction::SocketUse(SocketOperation::Used, socket));
        self.session.observe(Observed::Socket { flow, cookie });
    }

    fn process_event(&mut self, pid: u32, what: ProcessAction) {
        let event = ProcessEvent {
            time_ns: START_NS + 1,
            start_ns: START_NS,
            pid,
            tid: pid,
            program: pid,
            uid: 1000,
            comm: "thread".into(),
            action: what,
        };
        self.session.observe(Observed::Process(event, &mut Nothing));
    }

    /// Ends an interval and delivers everything.
    pub fn end_interval(&mut self, duration: Duration) {
        self.session.end_interval(duration.as_nanos() as u64);
        self.deliver(GrowthTiming::Now);
    }

    /// Ends an interval and delivers what the recording accepts. Waits until the recording fails,
    /// which it has to, and returns its error.
    pub fn fail(mut self, duration: Duration) -> String {
        self.session.end_interval(duration.as_nanos() as u64);
        while !self.feed.has_failed() {
            if self.feed.has_room() {
                self.feed.send(self.session.deliver(self.outlet, 1000, GrowthTiming::Now));
            }
            let _ = self.has_room.recv_timeout(Duration::from_secs(60));
        }
        let error = self.feed.take_failure().expect("it failed").to_string();
        // The thread has closed the file when it has ended.
        self.feed.close(StreamEnd::Abandoned).wait(Instant::now() + FINISH_TIMEOUT).expect("its error is taken");
        error
    }

    /// Delivers what waits, as the recording has room.
    pub fn deliver(&mut self, growth: GrowthTiming) {
        loop {
            while !self.feed.has_room() {
                assert!(!self.feed.has_failed(), "{:?}", self.feed.take_failure());
                self.has_room.recv_timeout(Duration::from_secs(60)).expect("the recording hangs");
            }
            let events = self.session.deliver(self.outlet, 1000, growth);
            if events.is_empty() {
                return;
            }
            self.feed.send(events);
        }
    }

    /// Ends the run well; its report.
    pub fn finish(mut self, duration: Duration, counters: Option<InterfaceCounters>) -> Arc<Report> {
        let ending = Some((ExitStatus::Code(0), EndedBy::Command));
        let report = Arc::new(self.session.conclude(duration.as_nanos() as u64, ending, counters));
        self.session.finish(report.clone());
        self.deliver(GrowthTiming::Now);
        let missed = self.session.take_missed(self.outlet);
        self.close_with(StreamEnd::Concluded(Box::new(missed)));
        report
    }

    /// Closes the recording; without [`Metered::finish`] it stays incomplete.
    pub fn close(self) -> Session<IsolatedScope> {
        self.close_with(StreamEnd::Abandoned)
    }

    fn close_with(self, end: StreamEnd) -> Session<IsolatedScope> {
        self.feed.close(end).wait(Instant::now() + FINISH_TIMEOUT).expect("written");
        self.session
    }
}
