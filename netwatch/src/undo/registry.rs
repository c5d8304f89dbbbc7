//! The registry of undo steps. A run is undone from its last change to its first, and a failed step
//! does not stop the others.

use std::fmt;
use std::path::Path;

use super::{Exclusive, Journal, JournalLine, RunDir, RunId, UndoRecord};
use crate::error::{Error, Result};

/// Why a run is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoCause {
    /// The run ended, well or not, and none of its processes is left.
    Ended,
    /// Its netwatch process died: other processes of the run may be alive, and orphaned sockets may
    /// keep its namespace.
    Died,
}

/// What an undo step receives in addition to the record.
#[derive(Debug, Clone, Copy)]
pub struct UndoContext<'a> {
    /// The run that is undone.
    pub run: &'a RunId,
    /// Its directory.
    pub dir: &'a Path,
    /// Why it is undone.
    pub cause: UndoCause,
    /// Everything that it recorded, in order.
    pub journal: &'a [JournalLine],
    /// The lock.
    pub held: &'a Exclusive,
}

type UndoLines = Box<dyn Fn(&UndoContext<'_>, &[&JournalLine]) -> Result<()> + Send + Sync>;
type UndoHook = fn(&UndoContext<'_>) -> Result<()>;

struct UndoStep {
    kind: &'static str,
    /// Undoes all records of the kind in one call, before the other kinds.
    is_batched: bool,
    undo: UndoLines,
}

/// How each kind of record is undone, as registered by the modules that make the changes.
#[derive(Default)]
pub struct UndoRegistry {
    steps: Vec<UndoStep>,
    before: Vec<UndoHook>,
    after: Vec<UndoHook>,
    is_elsewhere: Option<fn(u64) -> Result<bool>>,
    after_dead_runs: Vec<fn(&Exclusive) -> Result<()>>,
}

impl fmt::Debug for UndoRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| step.kind)).finish()
    }
}

/// Registration.
impl UndoRegistry {
    /// Registers how a record of this kind is undone.
    pub fn register<R: UndoRecord>(&mut self, undo: fn(&UndoContext<'_>, &R) -> Result<()>) {
        let each = move |context: &UndoContext<'_>, lines: &[&JournalLine]| {
            lines.iter().try_for_each(|line| line.read()?.map_or(Ok(()), |record| undo(context, &record)))
        };
        self.add(R::KIND, false, Box::new(each));
    }

    /// Registers how all records of this kind are undone at once, before the other kinds.
    pub fn register_batch<R: UndoRecord>(&mut self, undo: fn(&UndoContext<'_>, &[R]) -> Result<()>) {
        let all = move |context: &UndoContext<'_>, lines: &[&JournalLine]| {
            let records = lines.iter().filter_map(|line| line.read().transpose()).collect::<Result<Vec<R>>>()?;
            undo(context, &records)
        };
        self.add(R::KIND, true, Box::new(all));
    }

    fn add(&mut self, kind: &'static str, is_batched: bool, undo: UndoLines) {
        debug_assert!(self.step(kind).is_none(), "{kind} is registered twice");
        self.steps.push(UndoStep { kind, is_batched, undo });
    }

    /// Registers a hook that is called before the journal is read.
    pub fn register_before(&mut self, hook: UndoHook) {
        self.before.push(hook);
    }

    /// Registers a hook that is called after the last record has been undone.
    pub fn register_after(&mut self, hook: UndoHook) {
        self.after.push(hook);
    }

    /// Registers a check whether the network namespace with this inode exists and is not the
    /// caller's. A run that was started in such a namespace can only be undone there.
    pub fn register_elsewhere(&mut self, is_elsewhere: fn(u64) -> Result<bool>) {
        self.is_elsewhere = Some(is_elsewhere);
    }

    /// Registers a hook that is called once after all dead runs have been undone, if there were
    /// any.
    pub fn register_after_dead_runs(&mut self, hook: fn(&Exclusive) -> Result<()>) {
        self.after_dead_runs.push(hook);
    }

    fn step(&self, kind: &str) -> Option<&UndoStep> {
        self.steps.iter().find(|step| step.kind == kind)
    }
}

/// Undoing.
impl UndoRegistry {
    /// Undoes everything recorded in this run directory and removes the directory. When something
    /// could not be undone, the first failure is returned and the directory stays, so that the next
    /// run tries again.
    pub fn undo_run(&self, dir: &Path, cause: UndoCause, held: &Exclusive) -> Result<()> {
        let run = dir
            .file_name()
            .and_then(|name| RunId::parse(name.to_str()?))
            .ok_or_else(|| Error::other("clean up after", dir.display().to_string(), "not the directory of a run"))?;
        let mut context = UndoContext { run: &run, dir, cause, journal: &[], held };
        let mut failures = Failures::default();
        self.before.iter().for_each(|hook| failures.add(hook(&context)));
        let journal = Journal::read(dir)?;
        context.journal = &journal;
        self.undo_journal(&context, &mut failures);
        self.after.iter().for_each(|hook| failures.add(hook(&context)));
        failures.first()?;
        remove(dir)
    }

    fn undo_journal(&self, context: &UndoContext<'_>, failures: &mut Failures) {
        for step in self.steps.iter().filter(|step| step.is_batched) {
            let lines: Vec<_> = context.journal.iter().filter(|line| line.kind() == step.kind).collect();
            if !lines.is_empty() {
                failures.add((step.undo)(context, &lines));
            }
        }
        for line in context.journal.iter().rev() {
            match self.step(line.kind()) {
                Some(step) if step.is_batched => {}
                Some(step) => failures.add((step.undo)(context, &[line])),
                None => failures.add(Err(unknown(line))),
            }
        }
    }

    /// Undoes every dead run and returns their number. All are tried; the first failure is
    /// returned.
    pub fn undo_dead_runs(&self, held: &Exclusive) -> Result<usize> {
        let dead = RunDir::dead(held)?;
        let mut failures = Failures::default();
        dead.iter().for_each(|run| failures.add(self.undo_dead_run(run, held)));
        if !dead.is_empty() {
            self.after_dead_runs.iter().for_each(|hook| failures.add(hook(held)));
        }
        failures.first().map(|()| dead.len())
    }

    /// Fails for a run of another network namespace that still exists, because only there can its
    /// rules and switches be found.
    fn undo_dead_run(&self, run: &RunDir, held: &Exclusive) -> Result<()> {
        if let (Some(is_elsewhere), Some(inode)) = (self.is_elsewhere, run.netns_inode())
            && is_elsewhere(inode)?
        {
            return Err(Error::other(
                "clean up after run",
                run.id().as_str(),
                "it belongs to another network namespace",
            )
            .hint("run `netwatch clean` there"));
        }
        self.undo_run(run.path(), UndoCause::Died, held)
    }
}

/// Keeps the first failure; the other steps are still executed.
#[derive(Default)]
struct Failures(Option<Error>);

impl Failures {
    fn add(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.0.get_or_insert(error);
        }
    }

    fn first(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn unknown(line: &JournalLine) -> Error {
    Error::other("undo", line.shown(), "this version of netwatch does not support it")
        .hint("run `netwatch clean` with the version that made the run")
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::os("remove", dir.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use serde::{Deserialize, Serialize};

    use super::*;

    thread_local! {
        static UNDONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    #[derive(Serialize, Deserialize)]
    struct Single {
        name: String,
    }

    impl UndoRecord for Single {
        const KIND: &'static str = "single";
    }

    #[derive(Serialize, Deserialize)]
    struct Batched {
        name: String,
    }

    impl UndoRecord for Batched {
        const KIND: &'static str = "batched";
    }

    fn log(text: impl Into<String>) {
        UNDONE.with_borrow_mut(|undone| undone.push(text.into()));
    }

    fn registry() -> UndoRegistry {
        let mut registry = UndoRegistry::default();
        registry.register::<Single>(|_, record| {
            log(&record.name);
            if record.name == "fails" { Err(Error::other("undo", "fails", "test")) } else { Ok(()) }
        });
        registry.register_batch::<Batched>(|_, records| {
            log(records.iter().map(|record| record.name.as_str()).collect::<Vec<_>>().join("+"));
            Ok(())
        });
        registry.register_before(|_| {
            log("before");
            Ok(())
        });
        registry.register_after(|context| {
            log(format!("after {}", context.journal.len()));
            Ok(())
        });
        registry
    }

    /// Undoes a run with this journal. Returns the steps that were taken, whether they succeeded,
    /// and whether the directory is left.
    fn undo(journal: &str) -> (Vec<String>, bool, bool) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("0123abcd");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("journal"), journal).unwrap();
        let lock = Exclusive::take().unwrap();
        UNDONE.take();
        let result = registry().undo_run(&dir, UndoCause::Ended, &lock);
        (UNDONE.take(), result.is_ok(), dir.exists())
    }

    fn line(kind: &str, name: &str) -> String {
        format!("{{\"kind\":\"{kind}\",\"name\":\"{name}\"}}\n")
    }

    #[test]
    fn undoes_batches_first_then_the_last_change_first() {
        let journal = [("single", "a"), ("batched", "b"), ("single", "c"), ("batched", "d")];
        let journal: String = journal.iter().map(|(kind, name)| line(kind, name)).collect();
        assert_eq!(undo(&journal).0, ["before", "b+d", "c", "a", "after 4"]);
        assert!(!undo(&journal).2);
    }

    #[test]
    fn a_failure_keeps_the_directory_and_the_other_steps_are_taken() {
        let journal = line("single", "a") + &line("single", "fails") + &line("single", "b");
        let (undone, is_ok, is_left) = undo(&journal);
        assert_eq!(undone, ["before", "b", "fails", "a", "after 3"]);
        assert!(!is_ok && is_left);
    }

    #[test]
    fn an_unknown_kind_keeps_the_directory_and_the_other_steps_are_taken() {
        for unknown in [line("from_the_future", "x"), "{\"kind\":\"single\",\"title\":\"x\"}\n".into()] {
            let (undone, is_ok, is_left) = undo(&(line("single", "a") + &unknown));
            assert_eq!(undone, ["before", "a", "after 2"]);
            assert!(!is_ok && is_left);
        }
    }
}
