//! Processes: which programs they run, and when they start and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::limits::{Capacity, HashMap, HashSet};
use super::{LiveProcess, SystemView};
use crate::process::{Image, Origin, ProcessEvent, ProcessNumber};

/// /proc reports times in units of 10 ms (`USER_HZ`); this is twice as long.
const TICK_NS: u64 = 20_000_000;

/// One program in one process.
#[derive(Debug)]
pub(super) struct ProcessEntry {
    pub pid: u32,
    pub start_ns: u64,
    /// See [`ProcessEvent::program`].
    pub program: u32,
    pub ppid: u32,
    pub parent: Option<ProcessNumber>,
    pub uid: u32,
    /// A child runs the program of its creator.
    pub image: Arc<Image>,
    /// The process has ended.
    has_ended: bool,
}

impl ProcessEntry {
    /// Whether this is the process that began then. The kernel may have reused the process ID
    /// without a reported event.
    fn is_process(&self, start_ns: u64) -> bool {
        start_ns == 0 || self.start_ns == start_ns
    }
}

/// The programs of all processes of a session.
#[derive(Debug)]
pub(super) struct ProcessTable {
    /// What exceeds it is counted.
    capacity: Capacity,
    entries: BTreeMap<ProcessNumber, ProcessEntry>,
    next: ProcessNumber,
    /// The current program of each process ID.
    current: HashMap<u32, ProcessNumber>,
    command: CommandPrograms,
    /// Processes that ended before netwatch could read /proc.
    pub gone: u64,
    /// Programs whose path or arguments could not be read.
    pub unreadable: u64,
    pub beyond: u64,
}

impl ProcessTable {
    pub(super) fn new(max: usize) -> Self {
        let (entries, current) = (BTreeMap::new(), HashMap::default());
        let (capacity, command) = (Capacity::new(max), CommandPrograms::default());
        Self { capacity, entries, next: 0, current, command, gone: 0, unreadable: 0, beyond: 0 }
    }

    /// Sets the process ID of the command, before its first event.
    pub(super) fn set_command(&mut self, pid: u32) {
        self.command.pid = Some(pid);
    }

    /// The program that the process of the command ran at this time; if there is none, the first
    /// program in any process. `None` if the program of that time was removed.
    pub(super) fn of_command(&self, time_ns: u64) -> Option<ProcessNumber> {
        match self.command.at(time_ns) {
            Some(number) => number,
            None => self.entries.keys().next().copied(),
        }
    }

    /// The first program in the process of the command; if there is none, the first in any process.
    pub(super) fn first_of_command(&self) -> Option<ProcessNumber> {
        self.of_command(0)
    }

    /// In order of first appearance.
    pub(super) fn entries(&self) -> &BTreeMap<ProcessNumber, ProcessEntry> {
        &self.entries
    }

    pub(super) fn ended(&mut self, event: &ProcessEvent) {
        if let Some(entry) = self.current.get(&event.pid).and_then(|number| self.entries.get_mut(number)) {
            entry.has_ended |= entry.is_process(event.start_ns);
        }
    }

    /// Whether there is little room left.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.capacity.is_due(self.entries.len())
    }

    /// Removes entries that are not needed: earlier programs of a process, and processes that have
    /// ended. Ancestors of those that stay are needed too, and the first entry, and the first of
    /// the command.
    pub(super) fn tidy(&mut self, needed: impl Iterator<Item = ProcessNumber>) {
        let lives = self.current.values().filter(|number| !self.entries[*number].has_ended);
        let first = self.entries.keys().next().copied().into_iter().chain(self.first_of_command());
        let mut kept: HashSet<ProcessNumber> = HashSet::default();
        for number in needed.chain(lives.copied()).chain(first) {
            let mut next = Some(number);
            while let Some(number) = next.filter(|number| kept.insert(*number)) {
                next = self.entries.get(&number).and_then(|entry| entry.parent);
            }
        }
        self.entries.retain(|number, _| kept.contains(number));
        self.command.tidy(|number| kept.contains(&number));
        self.current.retain(|_, number| kept.contains(number));
        self.capacity.was_tidied(self.entries.len());
    }

    pub(super) fn forked(&mut self, event: &ProcessEvent, origin: Origin) {
        let maker = self.current.get(&origin.maker).map(|number| &self.entries[number]);
        // If the creator is known to run another program, only the name of this one is known.
        let maker = maker.filter(|maker| maker.program == event.program).map(|maker| Arc::clone(&maker.image));
        let image = maker.unwrap_or_else(|| Arc::new(Image { comm: event.comm.text(), ..Image::default() }));
        let parent = self.current.get(&origin.ppid).copied();
        let ProcessEvent { pid, program, uid, .. } = *event;
        let (start_ns, ppid) = (origin.start_ns, origin.ppid);
        self.add(event.time_ns, ProcessEntry { pid, start_ns, program, ppid, parent, uid, image, has_ended: false });
    }

    /// Adds the program of an exec. The previous program of the process stays, with its sockets.
    pub(super) fn executed(
        &mut self,
        event: &ProcessEvent,
        origin: Origin,
        mut image: Image,
        system: &mut dyn SystemView,
    ) {
        let ProcessEvent { pid, program, uid, .. } = *event;
        if image.exe.as_ref().is_some_and(|exe| !exe.starts_with('/') || is_link(exe)) {
            image.exe = self.resolved(pid, &origin, &image, system);
        }
        let before = self.current.get(&pid).map(|number| &self.entries[number]);
        let same = before.filter(|before| before.is_process(origin.start_ns));
        // The parent that created the process, not one that adopted it since.
        let (start_ns, ppid, parent) = match same {
            Some(before) => (before.start_ns, before.ppid, before.parent),
            None => (origin.start_ns, origin.ppid, self.current.get(&origin.ppid).copied()),
        };
        self.unreadable += u64::from(image.is_unreadable || image.exe.is_none());
        let image = Arc::new(image);
        self.add(event.time_ns, ProcessEntry { pid, start_ns, program, ppid, parent, uid, image, has_ended: false });
    }

    /// Resolves a path that is relative or leads through /proc or /dev/fd, and so has a meaning
    /// only inside the process: by /proc while the process lives. If it has ended, `/proc/self/exe`
    /// is the previous program, a relative path stays as it was called, and any other path is not
    /// known.
    fn resolved(&self, pid: u32, origin: &Origin, image: &Image, system: &mut dyn SystemView) -> Option<String> {
        let is_it = |found: &LiveProcess| {
            found.image.comm == image.comm && found.origin.start_ns.abs_diff(origin.start_ns) <= TICK_NS
        };
        let alive = system.process(pid).filter(is_it).and_then(|found| found.image.exe);
        let before = || self.current.get(&pid).and_then(|number| self.entries[number].image.exe.clone());
        alive.or_else(|| match image.exe.as_deref() {
            Some("/proc/self/exe") => before(),
            Some(exe) if is_link(exe) => None,
            _ => image.exe.clone(),
        })
    }

    /// Completes a process that was found before an event reported it.
    fn complete_found(&mut self, event: &ProcessEvent) {
        let entry = self.current.get(&event.pid).and_then(|number| self.entries.get_mut(number));
        let found = entry.filter(|entry| entry.program == ProcessEvent::UNKNOWN_PROGRAM);
        if let Some(found) = found.filter(|found| found.start_ns.abs_diff(event.start_ns) <= TICK_NS) {
            (found.program, found.start_ns) = (event.program, event.start_ns);
        }
    }

    /// The process of an event. A process or program that no event reported is read from /proc.
    pub(super) fn current(&mut self, event: &ProcessEvent, system: &mut dyn SystemView) -> Option<ProcessNumber> {
        self.complete_found(event);
        let number = self.current.get(&event.pid).copied();
        if event.program == ProcessEvent::UNKNOWN_PROGRAM && number.is_some() {
            return number;
        }
        let entry = number.and_then(|number| self.entries.get_mut(&number));
        let entry = entry.filter(|entry| entry.is_process(event.start_ns));
        let known = number.filter(|_| entry.is_some());
        if let Some(entry) = entry.filter(|entry| entry.program == event.program) {
            // It may have changed its user ID since it began.
            entry.uid = event.uid;
            return number;
        }
        let is_it =
            |found: &LiveProcess| event.start_ns == 0 || found.origin.start_ns.abs_diff(event.start_ns) <= TICK_NS;
        let found = system.process(event.pid).filter(is_it);
        self.gone += u64::from(found.is_none());
        let (origin, image) = match found {
            Some(found) => (found.origin, found.image),
            None => {
                let image = Image { comm: event.comm.text(), ..Image::default() };
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
        self.add(event.time_ns, ProcessEntry { pid, start_ns, program, ppid, parent, uid, image, has_ended: false })
    }

    /// Adds a program that runs since this time.
    fn add(&mut self, since_ns: u64, entry: ProcessEntry) -> Option<ProcessNumber> {
        let (pid, start_ns, number) = (entry.pid, entry.start_ns, self.next);
        if self.capacity.is_full(self.entries.len()) || number == ProcessNumber::MAX {
            self.beyond += 1;
            // The process ID no longer means the previous process.
            self.current.remove(&pid);
            self.command.started(pid, start_ns, since_ns, None);
            return None;
        }
        self.next += 1;
        self.command.started(pid, start_ns, since_ns, Some(number));
        self.entries.insert(number, entry);
        self.current.insert(pid, number);
        Some(number)
    }
}

/// The programs that ran in the process of the command, one after the other.
#[derive(Debug, Default)]
struct CommandPrograms {
    pid: Option<u32>,
    /// The start of the process: its process ID may be reused.
    start_ns: u64,
    /// Each with the time of its exec, in order. `None` if it was removed, or had no room.
    programs: Vec<(u64, Option<ProcessNumber>)>,
}

impl CommandPrograms {
    /// Notes that a process started a program.
    fn started(&mut self, pid: u32, start_ns: u64, since_ns: u64, number: Option<ProcessNumber>) {
        if self.pid != Some(pid) {
            return;
        }
        if self.programs.is_empty() {
            self.start_ns = start_ns;
        }
        // A process that was found has a start in ticks.
        if start_ns.abs_diff(self.start_ns) <= TICK_NS && (number.is_some() || !self.is_gap_last()) {
            self.programs.push((since_ns, number));
        }
    }

    /// The program of a time, the first one before any; `None` without programs.
    fn at(&self, time_ns: u64) -> Option<Option<ProcessNumber>> {
        let later = self.programs.partition_point(|(since_ns, _)| *since_ns <= time_ns);
        self.programs.get(later.saturating_sub(1)).map(|(_, number)| *number)
    }

    /// Successive programs that were removed become one gap.
    fn tidy(&mut self, is_kept: impl Fn(ProcessNumber) -> bool) {
        for (_, number) in &mut self.programs {
            *number = number.filter(|number| is_kept(*number));
        }
        self.programs.dedup_by(|next, last| next.1.is_none() && last.1.is_none());
    }

    fn is_gap_last(&self) -> bool {
        self.programs.last().is_some_and(|(_, number)| number.is_none())
    }
}

/// Whether a path leads elsewhere for each process, as those of fexecve(3) do.
fn is_link(exe: &str) -> bool {
    exe.starts_with("/proc/") || exe.starts_with("/dev/fd/")
}
