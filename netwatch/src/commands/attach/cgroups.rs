//! The cgroups that the classifier is attached to.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::path::Path;

use super::follow::{ExistingSockets, Followed, TargetSummary};
use super::names::NameList;
use super::notes;
use crate::error::{Error, Result};
use crate::flow::InterfaceCounters;
use crate::host::existing::ExistingNamespace;
use crate::host::existing_cgroup::{ExistingCgroup, descends_from};
use crate::host::links::LinkChanges;
use crate::host::netlink::Netlink;
use crate::host::sockets;
use crate::host::sysctl::netns_cookie;
use crate::meter::{AttachedCgroup, CgroupAttacher};
use crate::proc::stat::ProcStat;
use crate::report::Interface;

/// A cgroup to meter.
#[derive(Debug)]
pub(super) struct TargetCgroup {
    cgroup: ExistingCgroup,
    /// What it is, for people.
    shown: String,
    /// The process with which the target ends, and its start time.
    process: Option<(u32, u64)>,
}

impl TargetCgroup {
    pub(super) fn open(path: &str) -> Result<Self> {
        Ok(Self::of(ExistingCgroup::open(path)?, None))
    }

    pub(super) fn of_unit(name: &str) -> Result<Self> {
        Ok(Self::of(ExistingCgroup::of_unit(name)?, None))
    }

    /// The cgroup of a container, which ends with a process of it.
    pub(super) fn of_container(pid: u32, name: &str) -> Result<Self> {
        let cgroup = ExistingCgroup::of_process(pid)?;
        let shown = format!("container {name} (cgroup {})", cgroup.name());
        Ok(Self { cgroup, shown, process: None })
    }

    /// The cgroup of a process, if it has no other processes than those that descend from it.
    pub(super) fn of_process(pid: u32) -> Result<Self> {
        let name = format!("process {pid}");
        let Some(stat) = ProcStat::of(pid) else {
            return Err(Error::other("attach to", name, "there is no such process"));
        };
        let cgroup = ExistingCgroup::of_process(pid)?;
        let others = cgroup.processes().into_iter().filter(|other| !descends_from(*other, pid)).count();
        if others > 0 {
            let cause = format!(
                "it uses the network namespace of netwatch, and its cgroup {} has {others} other processes",
                cgroup.name()
            );
            let hint = format!("--cgroup {} meters all of them, -i an interface", cgroup.name());
            return Err(Error::other("attach to", name, cause).hint(hint));
        }
        let shown = format!("{name} (cgroup {})", cgroup.name());
        Ok(Self { cgroup, shown, process: Some((pid, stat.start_ticks)) })
    }

    fn of(cgroup: ExistingCgroup, process: Option<(u32, u64)>) -> Self {
        let shown = format!("cgroup {}", cgroup.name());
        Self { cgroup, shown, process }
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        self.cgroup.path()
    }

    fn has_ended(&self) -> bool {
        let is_gone = |(pid, start): (u32, u64)| {
            !ProcStat::of(pid).is_some_and(|stat| stat.start_ticks == start && stat.state != 'Z')
        };
        self.process.is_some_and(is_gone) || self.cgroup.has_ended()
    }
}

/// The cgroups of a session, and those that it is attached to.
pub(super) struct AttachedCgroups {
    targets: Vec<TargetCgroup>,
    attacher: CgroupAttacher,
    /// By the number of the target.
    attached: HashMap<usize, AttachedCgroup>,
    ended: HashSet<usize>,
    notes: NameList,
    interface: Interface,
}

impl AttachedCgroups {
    /// Nothing is attached yet.
    pub(super) fn new(targets: Vec<TargetCgroup>, attacher: CgroupAttacher) -> Self {
        let paths: NameList = targets.iter().map(|target| target.cgroup.name().to_owned()).collect();
        Self {
            targets,
            attacher,
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

/// Without targets inside others, whose packets would count twice.
pub(super) fn outermost(targets: Vec<TargetCgroup>) -> Vec<TargetCgroup> {
    let mut kept: Vec<TargetCgroup> = Vec::new();
    for target in targets {
        if !kept.iter().any(|outer| outer.cgroup.contains(&target.cgroup)) {
            kept.retain(|inner| !target.cgroup.contains(&inner.cgroup));
            kept.push(target);
        }
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
                match self.attacher.attach(target.cgroup.as_fd(), &target.shown) {
                    Ok(attached) => drop(self.attached.insert(number, attached)),
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
            found.processes.extend(target.cgroup.processes());
            numbers.extend(target.cgroup.numbers());
        }
        for namespace in namespaces(&found.processes) {
            let read = || Ok::<_, Error>((sockets::all(&mut Netlink::sock_diag()?)?, netns_cookie()?));
            let (all, cookie) = namespace.run_in(read)??;
            for socket in all {
                match socket.cgroup {
                    Some(number) if !numbers.contains(&number) => found.others.push(socket),
                    _ => found.metered.push((socket, cookie)),
                }
            }
        }
        Ok(found)
    }

    fn summary(&mut self) -> TargetSummary {
        let mut listed = vec![notes::metered_sockets(&self.all_shown()), notes::OF_SOCKETS.to_owned()];
        listed.push(notes::UNSEEN_BY_SOCKETS.to_owned());
        listed.extend(self.notes.listed().iter().cloned());
        TargetSummary { counters: None, notes: listed, interface: self.interface() }
    }
}

/// The network namespaces of these processes. Processes that have ended meanwhile are left out.
fn namespaces(processes: &HashSet<u32>) -> Vec<ExistingNamespace> {
    let mut found: Vec<ExistingNamespace> = Vec::new();
    for pid in processes {
        let Ok(namespace) = ExistingNamespace::open(&format!("/proc/{pid}/ns/net")) else { continue };
        if !found.iter().any(|known| known.is_same(&namespace).unwrap_or(false)) {
            found.push(namespace);
        }
    }
    found
}
