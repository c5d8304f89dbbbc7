//! The cgroups that the classifier is attached to.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use super::follow::{ExistingSockets, Followed, TargetSummary};
use super::names::NameList;
use super::notes;
use super::selection::{require_initial_pids, select, select_later, sockets_of};
use crate::commands::run::capture::StartedCapture;
use crate::error::{Error, Result};
use crate::flow::InterfaceCounters;
use crate::guardian::StartCapture;
use crate::host::existing_cgroup::{ExistingCgroup, descends_from, trees};
use crate::host::links::LinkChanges;
use crate::meter::{AttachedCgroup, CgroupAttacher, ProcessSelection};
use crate::proc::stat::ProcStat;
use crate::report::Interface;

/// A cgroup to meter.
#[derive(Debug)]
pub(super) struct TargetCgroup {
    cgroup: ExistingCgroup,
    /// What it is, for people.
    shown: String,
    /// The processes with which the target ends, with their start times; if empty, it ends with
    /// the cgroup only.
    processes: Vec<(u32, u64)>,
}

impl TargetCgroup {
    pub(super) fn open(path: &str) -> Result<Self> {
        Ok(Self::of(ExistingCgroup::open(path)?))
    }

    pub(super) fn of_unit(name: &str) -> Result<Self> {
        Ok(Self::of(ExistingCgroup::of_unit(name)?))
    }

    /// The cgroup of a container.
    pub(super) fn of_container(pid: u32, name: &str) -> Result<Self> {
        let cgroup = ExistingCgroup::of_process(pid)?;
        let shown = format!("container {name} (cgroup {})", cgroup.name());
        Ok(Self { cgroup, shown, processes: Vec::new() })
    }

    /// The cgroup of a process. Unless only sockets of the process are metered, the cgroup must
    /// have no other processes than those that descend from it.
    pub(super) fn of_process(pid: u32, only_it: bool) -> Result<Self> {
        if only_it {
            require_initial_pids()?;
        }
        let name = format!("process {pid}");
        let Some(stat) = ProcStat::of(pid) else {
            return Err(Error::other("attach to", name, "there is no such process"));
        };
        let cgroup = ExistingCgroup::of_process(pid)?;
        // One that has ended meanwhile descends from none.
        let is_other = |other: &u32| !descends_from(*other, pid) && ProcStat::of(*other).is_some();
        let others = cgroup.processes().into_iter().filter(is_other).count();
        if others > 0 && !only_it {
            let others = if others == 1 { "another process".to_owned() } else { format!("{others} other processes") };
            let cause =
                format!("it uses the network namespace of netwatch, and its cgroup {} has {others}", cgroup.name());
            let hint = format!(
                "--pid-only meters the sockets of the process and its descendants, --cgroup {} all of them",
                cgroup.name()
            );
            return Err(Error::other("attach to", name, cause).hint(hint));
        }
        let whose = if only_it { "only it and its descendants in " } else { "" };
        let shown = format!("{name} ({whose}cgroup {})", cgroup.name());
        Ok(Self { cgroup, shown, processes: vec![(pid, stat.start_ticks)] })
    }

    fn of(cgroup: ExistingCgroup) -> Self {
        let shown = format!("cgroup {}", cgroup.name());
        Self { cgroup, shown, processes: Vec::new() }
    }

    /// Adds another target, which is inside this one.
    fn include(&mut self, inner: &Self) {
        if self.processes.is_empty() || inner.processes.is_empty() {
            return self.processes.clear();
        }
        self.processes.extend(&inner.processes);
        self.shown = format!("{}, {}", self.shown, inner.shown);
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        self.cgroup.path()
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cgroup.as_fd()
    }

    /// Its processes and their descendants.
    fn tree(&self) -> HashSet<u32> {
        trees(&self.processes.iter().map(|(pid, _)| *pid).collect::<Vec<_>>())
    }

    fn has_ended(&self) -> bool {
        let is_gone = |(pid, start): &(u32, u64)| {
            !ProcStat::of(*pid).is_some_and(|stat| stat.start_ticks == *start && stat.state != 'Z')
        };
        !self.processes.is_empty() && self.processes.iter().all(is_gone) || self.cgroup.has_ended()
    }
}

/// The cgroups of a session, and those that it is attached to.
pub(super) struct AttachedCgroups {
    targets: Vec<TargetCgroup>,
    attacher: CgroupAttacher,
    /// If only the sockets of some processes are metered.
    selection: Option<ProcessSelection>,
    is_selective: bool,
    /// By the number of the target.
    attached: HashMap<usize, AttachedCgroup>,
    ended: HashSet<usize>,
    notes: NameList,
    interface: Interface,
}

impl AttachedCgroups {
    /// Nothing is attached yet.
    pub(super) fn new(
        targets: Vec<TargetCgroup>,
        attacher: CgroupAttacher,
        selection: Option<ProcessSelection>,
    ) -> Self {
        let paths: NameList = targets.iter().map(|target| target.cgroup.name().to_owned()).collect();
        Self {
            targets,
            attacher,
            is_selective: selection.is_some(),
            selection,
            attached: HashMap::new(),
            ended: HashSet::new(),
            notes: NameList::default(),
            interface: Interface::of_cgroups(&paths.to_string()),
        }
    }

    fn all_shown(&self) -> NameList {
        self.targets.iter().map(|target| target.shown.clone()).collect()
    }
}

/// Without targets inside others, whose packets would count twice. What is left ends with the
/// processes of all, unless one of them ends with its cgroup only.
pub(super) fn outermost(targets: Vec<TargetCgroup>) -> Vec<TargetCgroup> {
    let mut kept: Vec<TargetCgroup> = Vec::new();
    for mut target in targets {
        if let Some(outer) = kept.iter_mut().find(|outer| outer.cgroup.contains(&target.cgroup)) {
            outer.include(&target);
            continue;
        }
        let is_inside = |inner: &mut TargetCgroup| target.cgroup.contains(&inner.cgroup);
        let inside: Vec<TargetCgroup> = kept.extract_if(.., is_inside).collect();
        inside.iter().for_each(|inner| target.include(inner));
        kept.push(target);
    }
    kept
}

impl Followed for AttachedCgroups {
    fn take_changes(&mut self) -> Vec<LinkChanges> {
        Vec::new()
    }

    fn update(&mut self) -> Vec<Error> {
        let mut errors = Vec::new();
        for (number, target) in self.targets.iter().enumerate() {
            if self.ended.contains(&number) {
                continue;
            }
            if target.has_ended() {
                self.ended.insert(number);
                self.attached.remove(&number);
                self.notes.insert(notes::ended_cgroup(&target.shown));
            } else if !self.attached.contains_key(&number) {
                let selected = self
                    .selection
                    .as_mut()
                    .map_or(Ok(0), |selection| select(target.as_fd(), &target.shown, || target.tree(), selection));
                let attach = |unlisted| {
                    let attached = self.attacher.attach(target.as_fd(), &target.shown)?;
                    self.selection.as_ref().map_or(Ok(()), |selection| select_later(&target.tree(), selection))?;
                    Ok((unlisted, attached))
                };
                match selected.and_then(attach) {
                    Ok((unlisted, attached)) => {
                        self.attached.insert(number, attached);
                        notes::unlisted_sockets(unlisted).into_iter().for_each(|note| _ = self.notes.insert(note));
                    }
                    Err(error) => errors.push(error),
                }
            }
        }
        errors
    }

    fn has_one_ended(&self) -> bool {
        self.targets.iter().enumerate().any(|(number, target)| !self.ended.contains(&number) && target.has_ended())
    }

    fn have_ended(&self) -> bool {
        self.ended.len() == self.targets.len()
    }

    fn detach_all(&mut self) -> Result<()> {
        self.attached.clear();
        self.selection = None;
        Ok(())
    }

    fn shown(&self) -> NameList {
        self.all_shown()
    }

    fn interface(&self) -> Interface {
        self.interface.clone()
    }

    fn counters_so_far(&mut self) -> Option<InterfaceCounters> {
        None
    }

    fn sockets(&mut self) -> Result<ExistingSockets> {
        let mut found = ExistingSockets::default();
        let mut numbers = HashSet::new();
        for target in &self.targets {
            found.processes.extend(match self.selection {
                Some(_) => target.tree(),
                None => target.cgroup.processes(),
            });
            numbers.extend(target.cgroup.numbers());
        }
        found.are_selected = self.selection.is_some();
        for (socket, cookie) in sockets_of(&found.processes)? {
            match socket.cgroup {
                Some(number) if !numbers.contains(&number) => found.others.push(socket),
                _ => found.metered.push((socket, cookie)),
            }
        }
        Ok(found)
    }

    fn start_capture(&mut self, _: StartCapture, _: Option<String>) -> Result<StartedCapture> {
        Err(notes::no_capture_of_cgroups())
    }

    fn stop_capture(&mut self, _: u16) {}

    fn summary(&mut self) -> TargetSummary {
        let mut listed = vec![notes::metered_sockets(&self.all_shown()), notes::OF_SOCKETS.to_owned()];
        listed.push(notes::UNSEEN_BY_SOCKETS.to_owned());
        listed.extend(self.is_selective.then(|| notes::OF_PROCESSES.to_owned()));
        listed.extend(self.notes.listed().iter().cloned());
        TargetSummary { counters: None, notes: listed, interface: self.interface() }
    }
}
