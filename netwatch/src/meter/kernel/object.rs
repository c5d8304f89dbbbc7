//! Loads an object into the kernel: parses it, creates its maps, resolves references, loads its
//! programs. aya's loader is not used, because it first parses the kernel's whole BTF, which these
//! objects do not need.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_map_type, bpf_prog_type};
use aya_obj::{EbpfSectionKind, Map, Object, ProgramSection};
use netwatch_common::config::Config;
use netwatch_common::process::ProcessFilter;

use super::sys::{self, MapShape, ProgramKind};
use crate::error::{self, Error, Result};

/// The object of the classifier, built by `cargo xtask build` and committed.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/netwatch.o");
/// That of the classifier for cgroups.
pub(super) static CGROUP_OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/cgroup.o");

/// The object's maps and programs in the kernel, by name.
#[derive(Debug)]
pub(super) struct Loaded {
    maps: HashMap<String, OwnedFd>,
    programs: HashMap<String, OwnedFd>,
}

/// A task that fills maps while the programs are verified, on another thread.
type ConcurrentTask<'a, T> = dyn FnOnce(&HashMap<String, OwnedFd>) -> Result<T> + Send + 'a;

/// Read-only data of the programs.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Globals {
    pub config: Config,
    pub log_level: u8,
    /// Of the classifier for cgroups only.
    pub processes: ProcessFilter,
}

/// Sizes of maps that differ from those in the object, by name.
pub(super) type MapSizes<'a> = &'a [(&'a str, u32)];

/// Maps of another object, by name.
pub(super) type SharedMaps<'a> = &'a [(&'a str, BorrowedFd<'a>)];

/// Other instructions for a function of the object.
#[derive(Debug)]
pub(super) struct FunctionBody<'a> {
    pub name: &'a str,
    pub instructions: Vec<bpf_insn>,
}

/// For each map of maps, by name, a map with the shape of those that it will hold.
pub(super) type InnerMaps<'a> = &'a [(&'a str, BorrowedFd<'a>)];

impl Loaded {
    /// Loads `object`. `meanwhile` runs while the programs are verified.
    pub(super) fn new<T: Send>(
        object: &[u8],
        globals: &Globals,
        sizes: MapSizes<'_>,
        inner: InnerMaps<'_>,
        meanwhile: Box<ConcurrentTask<'_, T>>,
    ) -> Result<(Self, T)> {
        let mut object = Object::parse(object).map_err(|cause| broken(&cause))?;
        let level = [globals.log_level];
        let globals = HashMap::from([
            ("CONFIG", (bytes_of(&globals.config), true)),
            ("AYA_LOG_LEVEL", (&level[..], false)),
            ("PROCESS_FILTER", (bytes_of_filter(&globals.processes), false)),
        ]);
        object.patch_map_data(globals).map_err(|cause| broken(&cause))?;
        let maps = create_maps(&object, sizes, inner)?;
        relocate(&mut object, &maps)?;
        let (programs, done) = std::thread::scope(|scope| {
            let concurrent = scope.spawn(|| meanwhile(&maps));
            let programs = load_programs(&object);
            (programs, joined(concurrent))
        });
        Ok((Self { maps, programs: programs? }, done?))
    }

    /// Loads the programs of `object` that `kinds` names, one after the other. Returns the programs
    /// that the kernel has rejected, with the errors. `shared` are maps of an object that was
    /// loaded before, which the programs use instead of new ones.
    pub(super) fn new_partial(
        object: &[u8],
        globals: HashMap<&str, (&[u8], bool)>,
        sizes: MapSizes<'_>,
        kinds: &[(&'static str, ProgramKind)],
        replaced: Option<FunctionBody<'_>>,
        shared: SharedMaps<'_>,
    ) -> Result<(Self, Vec<(&'static str, Error)>)> {
        let mut object = Object::parse(object).map_err(|cause| broken(&cause))?;
        object.patch_map_data(globals).map_err(|cause| broken(&cause))?;
        if let Some(replaced) = replaced {
            replace_function(&mut object, replaced)?;
        }
        let failed = |cause| Error::os("duplicate", "a BPF map", cause);
        let shared = shared.iter().map(|&(name, map)| Ok((name, map.try_clone_to_owned().map_err(failed)?)));
        let mut shared = shared.collect::<Result<HashMap<_, _>>>()?;
        let map_of = |(name, map): (&String, &Map)| {
            let made = shared.remove(name.as_str()).map_or_else(|| create_map(name, map, sizes, &[]), Ok)?;
            Ok((name.clone(), made))
        };
        let maps = object.maps.iter().map(map_of).collect::<Result<_>>()?;
        relocate(&mut object, &maps)?;
        let (mut programs, mut refused) = (HashMap::new(), Vec::new());
        for &(name, kind) in kinds {
            let code = &object.functions[&object.programs[name].function_key()].instructions;
            match load_program(name, kind, code) {
                Ok(program) => drop(programs.insert(name.to_owned(), program)),
                Err(error) => refused.push((name, error)),
            }
        }
        Ok((Self { maps, programs }, refused))
    }

    /// A map of the object.
    ///
    /// # Panics
    /// If the object has no such map. The build checks that it does.
    pub(super) fn map(&self, name: &str) -> &OwnedFd {
        &self.maps[name]
    }

    /// A program of the object.
    ///
    /// # Panics
    /// If the object has no such program.
    pub(super) fn program(&self, name: &str) -> &OwnedFd {
        &self.programs[name]
    }

    /// A program of the object, if it was loaded.
    pub(super) fn loaded(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.programs.get(name).map(AsFd::as_fd)
    }

    /// All programs and their names.
    pub(super) fn named_programs(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.programs.iter().map(|(name, program)| (name.as_str(), program.as_fd()))
    }

    /// All programs.
    pub(super) fn programs(&self) -> impl Iterator<Item = &OwnedFd> {
        self.programs.values()
    }

    /// All maps.
    pub(super) fn maps(&self) -> impl Iterator<Item = &OwnedFd> {
        self.maps.values()
    }
}

fn broken(cause: &dyn std::fmt::Display) -> Error {
    Error::other("load", "the classifier", cause.to_string())
        .hint("the object is invalid; rebuild it with `cargo xtask build`")
}

fn bytes_of(config: &Config) -> &[u8] {
    // SAFETY: `#[repr(C)]`, u32 only, no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(config).cast(), size_of::<Config>()) }
}

fn bytes_of_filter(filter: &ProcessFilter) -> &[u8] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(filter).cast(), size_of::<ProcessFilter>()) }
}

fn create_maps(object: &Object, sizes: MapSizes<'_>, inner: InnerMaps<'_>) -> Result<HashMap<String, OwnedFd>> {
    object.maps.iter().map(|(name, map)| Ok((name.clone(), create_map(name, map, sizes, inner)?))).collect()
}

fn create_map(name: &str, map: &Map, sizes: MapSizes<'_>, inner: InnerMaps<'_>) -> Result<OwnedFd> {
    let size = sizes.iter().find(|(sized, _)| *sized == name);
    let shape = MapShape {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: size.map_or(map.max_entries(), |&(_, size)| size),
        flags: map.map_flags(),
    };
    let failed = |cause| Error::os("create BPF map", name, cause).hint(error::needs("CAP_BPF and CAP_NET_ADMIN"));
    let inner = inner.iter().find(|(outer, _)| *outer == name).map(|(_, inner)| *inner);
    let fd = sys::map_create(name, shape, inner).map_err(failed)?;
    if matches!(map.section_kind(), EbpfSectionKind::Rodata | EbpfSectionKind::Data) {
        sys::map_update(fd.as_fd(), &0_u32.to_ne_bytes(), map.data()).map_err(failed)?;
    }
    if map.section_kind() == EbpfSectionKind::Rodata {
        sys::map_freeze(fd.as_fd()).map_err(failed)?;
    }
    debug_assert!(shape.map_type != bpf_map_type::BPF_MAP_TYPE_UNSPEC as u32);
    Ok(fd)
}

/// Puts other instructions in place of a function's. Programs contain a copy of each function that
/// they call, which is made afterwards.
fn replace_function(object: &mut Object, body: FunctionBody<'_>) -> Result<()> {
    let function = object.functions.values_mut().find(|function| function.name == body.name);
    let function = function.ok_or_else(|| broken(&format!("it has no function {}", body.name)))?;
    function.instructions = body.instructions;
    // Relocations are found by their offset in the section. Those behind the old function are not
    // about the new instructions, which have none.
    function.section_offset = usize::MAX / 2;
    function.func_info.func_info.clear();
    function.line_info.line_info.clear();
    Ok(())
}

fn relocate(object: &mut Object, maps: &HashMap<String, OwnedFd>) -> Result<()> {
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let definitions = object.maps.clone();
    let numbered = definitions.iter().map(|(name, map)| (name.as_str(), maps[name].as_raw_fd(), map));
    object.relocate_maps(numbered, &text).map_err(|cause| broken(&cause))?;
    object.relocate_calls(&text).map_err(|cause| broken(&cause))
}

/// Loads each program on a thread of its own: most of the time is spent in the verifier.
fn load_programs(object: &Object) -> Result<HashMap<String, OwnedFd>> {
    std::thread::scope(|scope| {
        let load = |(name, program): (&String, &aya_obj::Program)| {
            let (name, code) = (name.clone(), &object.functions[&program.function_key()].instructions);
            let kind = program_type(&program.section);
            scope.spawn(move || load_program(&name, kind, code).map(|fd| (name, fd)))
        };
        let threads: Vec<_> = object.programs.iter().map(load).collect();
        threads.into_iter().map(joined).collect()
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::other("load", "the classifier", "a thread panicked")))
}

fn program_type(section: &ProgramSection) -> ProgramKind {
    let (program, attach) = match section {
        ProgramSection::RawTracePoint => (bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, 0),
        ProgramSection::CgroupSkb { .. } => (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB, 0),
        ProgramSection::CgroupSock { .. } => {
            (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK, bpf_attach_type::BPF_CGROUP_INET_SOCK_CREATE as u32)
        }
        _ => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0),
    };
    ProgramKind { program, attach }
}

pub(super) fn load_program(name: &str, kind: ProgramKind, code: &[bpf_insn]) -> Result<OwnedFd> {
    sys::program_load(name, kind, code, None).map_err(|cause| match cause.raw_os_error() {
        Some(libc::EPERM) => Error::os("load program", name, cause).hint(error::needs("CAP_BPF and CAP_NET_ADMIN")),
        _ => Error::os("load program", name, cause).hint(verifier_log(name, kind, code)),
    })
}

/// The last lines of the verifier's log.
fn verifier_log(name: &str, kind: ProgramKind, code: &[bpf_insn]) -> String {
    let mut log = vec![0; 16 << 20];
    let _rejected_again = sys::program_load(name, kind, code, Some(&mut log));
    let text = String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default());
    let tail: Vec<_> = text.lines().rev().take(3).collect();
    tail.into_iter().rev().collect::<Vec<_>>().join("; ")
}
