//! Processes as they come and run other programs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::room::Room;
use super::{LiveProcess, SystemView};
use crate::process::{Image, Origin, ProcessEvent, ProcessNumber};

/// /proc counts time in steps of half of this.
const TICK_NS: u64 = 20_000_000;

/// One program in one process.
#[derive(Debug)]
pub(super) struct Entry {
    pub pid: u32,
    pub start_ns: u64,
    /// As [`ProcessEvent::program`].
    pub program: u32,
    pub ppid: u32,
    pub parent: Option<ProcessNumber>,
    pub uid: u32,
    /// A fork runs what its maker runs.
    pub image: Arc<Image>,
    /// Its process has ended.
    has_ended: bool,
}

impl Entry {
    /// The same process: the number may have been given to another since, of which no event told.
    fn is_process(&self, start_ns: u64) -> bool {
        start_ns == 0 || self.start_ns == start_ns
    }
}

#[derive(Debug)]
pub(super) struct Table {
    /// So many are kept; further ones are counted.
    room: Room,
    entries: BTreeMap<ProcessNumber, Entry>,
    next: ProcessNumber,
    /// ProcessAction has a process number now.
    current: HashMap<u32, ProcessNumber>,
    /// Processes that were gone before they could be looked at.
    pub gone: u64,
    /// Programs of which something could not be read.
    pub unreadable: u64,
    pub beyond: u64,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        let (entries, current) = (BTreeMap::new(), HashMap::new());
        Self { room: Room::new(max), entries, next: 0, current, gone: 0, unreadable: 0, beyond: 0 }
    }

    /// In the order in which they were first seen.
    pub(super) fn entries(&self) -> &BTreeMap<ProcessNumber, Entry> {
        &self.entries
    }

    pub(super) fn ended(&mut self, event: &ProcessEvent) {
        if let Some(entry) = self.current.get(&event.pid).and_then(|number| self.entries.get_mut(number)) {
            entry.has_ended |= entry.is_process(event.start_ns);
        }
    }

    /// Whether there is little room left.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.room.is_due(self.entries.len())
    }

    /// Forgets what is over and not needed: what a process ran before, and processes that have ended. All above those that stay are
    /// needed too, and the first, which is the command.
    pub(super) fn tidy(&mut self, needed: impl Iterator<Item = ProcessNumber>) {
        let lives = self.current.values().filter(|number| !self.entries[*number].has_ended);
        let first = self.entries.keys().next();
        let mut kept: HashSet<ProcessNumber> = HashSet::new();
        for number in needed.chain(lives.copied()).chain(first.copied()) {
            let mut next = Some(number);
            while let Some(number) = next.filter(|number| kept.insert(*number)) {
                next = self.entries.get(&number).and_then(|entry| entry.parent);
            }
        }
        self.entries.retain(|number, _| kept.contains(number));
        self.current.retain(|_, number| kept.contains(number));
        self.room.was_tidied(self.entries.len());
    }

    pub(super) fn forked(&mut self, event: &ProcessEvent, origin: Origin) {
        let maker = self.current.get(&origin.maker).map(|number| &self.entries[number]);
        // Of another program than the maker is known to run, only the name is known.
        let maker = maker.filter(|maker| maker.program == event.program).map(|maker| Arc::clone(&maker.image));
        let image = maker.unwrap_or_else(|| Arc::new(Image { comm: event.comm.clone(), ..Image::default() }));
        let parent = self.current.get(&origin.ppid).copied();
        let ProcessEvent { pid, program, uid, .. } = *event;
        let (start_ns, ppid) = (origin.start_ns, origin.ppid);
        self.add(Entry { pid, start_ns, program, ppid, parent, uid, image, has_ended: false });
    }

    /// The program before this one stays, with what it did.
    pub(super) fn executed(
        &mut self,
        event: &ProcessEvent,
        origin: Origin,
        mut image: Image,
        look: &mut dyn SystemView,
    ) {
        let ProcessEvent { pid, program, uid, .. } = *event;
        if image.exe.as_ref().is_some_and(|exe| !exe.starts_with('/') || is_link(exe)) {
            image.exe = self.settled(pid, &origin, &image, look);
        }
        let before = self.current.get(&pid).map(|number| &self.entries[number]);
        let same = before.filter(|before| before.is_process(origin.start_ns));
        // Whoever began the process, not whoever took it over since.
        let (start_ns, ppid, parent) = match same {
            Some(before) => (before.start_ns, before.ppid, before.parent),
            None => (origin.start_ns, origin.ppid, self.current.get(&origin.ppid).copied()),
        };
        self.unreadable += u64::from(image.is_unreadable || image.exe.is_none());
        let image = Arc::new(image);
        self.add(Entry { pid, start_ns, program, ppid, parent, uid, image, has_ended: false });
    }

    /// A path that says nothing to others: relative, or by way of /proc or /dev/fd. The living process says where it leads; for one that is
    /// gone, the program before is what it called itself, a relative path stays as it was called, and any other is not known.
    fn settled(&self, pid: u32, origin: &Origin, image: &Image, look: &mut dyn SystemView) -> Option<String> {
        let is_it = |found: &LiveProcess| {
            found.image.comm == image.comm && found.origin.start_ns.abs_diff(origin.start_ns) <= TICK_NS
        };
        let alive = look.process(pid).filter(is_it).and_then(|found| found.image.exe);
        let before = || self.current.get(&pid).and_then(|number| self.entries[number].image.exe.clone());
        alive.or_else(|| match image.exe.as_deref() {
            Some("/proc/self/exe") => before(),
            Some(exe) if is_link(exe) => None,
            _ => image.exe.clone(),
        })
    }

    /// The process that did this. One that no event told of, or that runs a program of which none told, is looked for among the living.
    pub(super) fn current(&mut self, event: &ProcessEvent, look: &mut dyn SystemView) -> Option<ProcessNumber> {
        let known = self.current.get(&event.pid).copied();
        let known = known.filter(|number| self.entries[number].is_process(event.start_ns));
        let same = known.filter(|number| self.entries[number].program == event.program);
        if let Some(entry) = same.and_then(|number| self.entries.get_mut(&number)) {
            // It may have become another user since it began.
            entry.uid = event.uid;
            return same;
        }
        let is_it =
            |found: &LiveProcess| event.start_ns == 0 || found.origin.start_ns.abs_diff(event.start_ns) <= TICK_NS;
        let found = look.process(event.pid).filter(is_it);
        self.gone += u64::from(found.is_none());
        let (origin, image) = match found {
            Some(found) => (found.origin, found.image),
            None => {
                let image = Image { comm: event.comm.clone(), ..Image::default() };
                (Origin { start_ns: event.time_ns, ppid: 0, maker: 0 }, image)
            }
        };
        let start_ns = if event.start_ns == 0 { origin.start_ns } else { event.start_ns };
        let (start_ns, ppid, parent) = match known.map(|number| &self.entries[&number]) {
            Some(before) => (before.start_ns, before.ppid, before.parent),
            None => (start_ns, origin.ppid, self.current.get(&origin.ppid).copied()),
        };
        self.unreadable += u64::from(image.is_unreadable);
        let ProcessEvent { pid, program, uid, .. } = *event;
        let image = Arc::new(image);
        self.add(Entry { pid, start_ns, program, ppid, parent, uid, image, has_ended: false })
    }

    fn add(&mut self, entry: Entry) -> Option<ProcessNumber> {
        let (pid, number) = (entry.pid, self.next);
        if self.room.is_full(self.entries.len()) || number == ProcessNumber::MAX {
            self.beyond += 1;
            // Not the one that had the number before.
            self.current.remove(&pid);
            return None;
        }
        self.next += 1;
        self.entries.insert(number, entry);
        self.current.insert(pid, number);
        Some(number)
    }
}

/// A path that leads somewhere else for each process: what fexecve(3) calls, for one.
fn is_link(exe: &str) -> bool {
    exe.starts_with("/proc/") || exe.starts_with("/dev/fd/")
}
