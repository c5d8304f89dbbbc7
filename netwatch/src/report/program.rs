//! The programs that used the network, with the names that users call them by.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use crate::process::{Evidence, Process, ProcessId, program_of_command};

impl Report {
    /// The programs of these processes. Wrappers (`sh`, `env`, `timeout`) are left out if other
    /// programs remain.
    pub fn programs_of(&self, ids: &[ProcessId]) -> BTreeSet<String> {
        let processes: Vec<&Process> = ids.iter().filter_map(|id| self.processes.get(*id)).collect();
        let has_others = processes.iter().any(|process| !process.is_wrapper());
        let named = processes.iter().filter(|process| !(has_others && process.is_wrapper()));
        named.map(|process| process.program().to_owned()).collect()
    }

    /// The programs that used the network or tried to: the command's own program first if it is
    /// one of them, then those with most bytes. Without any, the first program that is no wrapper.
    pub fn programs(&self) -> Vec<String> {
        let bytes = self.bytes_by_process();
        let ids: Vec<ProcessId> = bytes.keys().copied().collect();
        let kept = self.programs_of(&ids);
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (process, bytes) in bytes.iter().filter_map(|(id, bytes)| Some((self.processes.get(*id)?, bytes))) {
            if kept.contains(process.program()) {
                *sums.entry(process.program()).or_default() += bytes;
            }
        }
        let command = self.processes.list.first().map(Process::program);
        let mut sums: Vec<(&str, u64)> = sums.into_iter().collect();
        sums.sort_by_key(|(program, bytes)| (Some(*program) != command, std::cmp::Reverse(*bytes)));
        match sums.is_empty() {
            false => sums.into_iter().map(|(program, _)| program.to_owned()).collect(),
            true => self.idle_program().into_iter().collect(),
        }
    }

    /// What ran, for titles: the script if the command is one, otherwise [`Self::programs`].
    pub fn subjects(&self) -> Vec<String> {
        self.script().map_or_else(|| self.programs(), |script| vec![script.to_owned()])
    }

    /// The script that the command runs, also behind wrappers that run nothing else.
    fn script(&self) -> Option<&str> {
        let list = &self.processes.list;
        let mut at = 0;
        loop {
            let process = list.get(at)?;
            if process.is_script() {
                return Some(process.program());
            }
            let started = |(other, next): (usize, &Process)| {
                let is_child = next.parent.is_some_and(|parent| parent.0 as usize == at);
                // An exec starts another program with the same pid.
                (other > at && (is_child || next.pid == process.pid)).then_some(other)
            };
            let mut next = list.iter().enumerate().filter_map(started);
            at = next.next().filter(|_| process.is_wrapper() && next.next().is_none())?;
        }
    }

    /// What a run without traffic ran.
    fn idle_program(&self) -> Option<String> {
        let program = self.processes.list.iter().find(|process| !process.is_wrapper()).map(Process::program);
        program.or_else(|| program_of_command(&self.run.command)).map(str::to_owned)
    }

    /// Bytes of each process that used the network. A process that is only inferred from the
    /// namespace counts if no other is known.
    fn bytes_by_process(&self) -> BTreeMap<ProcessId, u64> {
        let mut exact: BTreeMap<ProcessId, u64> = BTreeMap::new();
        let mut inferred = exact.clone();
        for known in &self.flows {
            let Some(user) = known.users.first() else { continue };
            let sums = if user.evidence == Evidence::Netns { &mut inferred } else { &mut exact };
            *sums.entry(user.process).or_default() += known.flow.counters.both().wire_bytes;
        }
        for folded in &self.folded_traffic {
            *exact.entry(folded.process).or_default() += folded.sum.counters.both().wire_bytes;
        }
        // A program that only looks for a local service, such as nscd, uses no network.
        for process in self.failures().iter().filter_map(|failure| failure.attempt.process) {
            exact.entry(process).or_default();
        }
        if exact.is_empty() { inferred } else { exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Processes;

    fn process(pid: u32, parent: Option<u32>, exe: &str, words: &[&str]) -> Process {
        let comm = if words[0].ends_with("sh") { words[1] } else { words[0] };
        Process {
            pid,
            parent: parent.map(ProcessId),
            comm: comm.trim_start_matches("./").into(),
            exe: Some(exe.into()),
            cmdline: Some(words.iter().map(|&word| word.into()).collect()),
            ..Process::default()
        }
    }

    #[test]
    fn titles_name_the_script_that_the_command_runs() {
        let subjects = |list: &[Process]| {
            let processes = Processes { list: list.to_vec(), ..Processes::default() };
            Report { processes, ..Report::empty() }.subjects()
        };
        let shell = Process { comm: "sh".into(), ..process(1, None, "/bin/dash", &["sh", "-c", "./deploy.sh"]) };
        let script = |pid, parent| process(pid, parent, "/bin/sh", &["/bin/sh", "./deploy.sh"]);
        let curl = |pid, parent| process(pid, Some(parent), "/usr/bin/curl", &["curl", "x"]);
        assert_eq!(subjects(&[script(1, None), curl(2, 0)]), ["deploy.sh"]);
        assert_eq!(subjects(&[shell.clone(), script(2, Some(0)), curl(3, 1)]), ["deploy.sh"], "started by a wrapper");
        assert_eq!(subjects(&[shell.clone(), script(1, None), curl(3, 1)]), ["deploy.sh"], "by exec");
        assert_eq!(subjects(&[shell, curl(2, 0), script(3, Some(0))]), ["curl"], "two programs");
    }
}
