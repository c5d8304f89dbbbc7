//! Loads the capture programs with a filter in them.

use std::collections::HashMap;

use aya_obj::generated::bpf_insn;
use netwatch_common::capture::{CaptureSettings, MAX_CAPLEN};

use super::super::object::{FunctionBody, Loaded, SharedMaps};
use super::super::sys::ProgramKind;
use super::{CLASSIFIER, OBJECT, TapConfig, WAKEUP_SHARE};
use crate::error::{Error, Result};
use crate::filter::{EbpfInstruction, FilterProgram, PacketAccess, translate};

const KINDS: [(&str, ProgramKind); 2] = [("capture_egress", CLASSIFIER), ("capture_ingress", CLASSIFIER)];
/// The function of the object that a filter replaces.
const FUNCTION: &str = "packet_filter";

/// Loads the programs for the interface with this number. If the kernel cannot run the filter, they
/// copy every packet whole, and the reason is returned. `shared` are maps of programs that were
/// loaded before.
pub(super) fn load(
    config: &TapConfig,
    filter: Option<&FilterProgram>,
    interface: u32,
    shared: SharedMaps<'_>,
) -> Result<(Loaded, Option<String>)> {
    match load_exactly(config, filter, interface, shared) {
        Err(error) if filter.is_some() => {
            let every_packet = TapConfig { snaplen: MAX_CAPLEN, ..*config };
            Ok((load_exactly(&every_packet, None, interface, shared)?, Some(error.to_string())))
        }
        loaded => Ok((loaded?, None)),
    }
}

/// As [`load`], but fails if the kernel cannot run the filter.
pub(super) fn load_exactly(
    config: &TapConfig,
    filter: Option<&FilterProgram>,
    interface: u32,
    shared: SharedMaps<'_>,
) -> Result<Loaded> {
    let wakeup_bytes = config.ring_bytes / WAKEUP_SHARE;
    let settings = CaptureSettings { snaplen: config.snaplen, wakeup_bytes, filter: 0, interface };
    let Some(filter) = filter else { return load_with(config, &settings, None, shared) };
    let failed = |cause| Error::other("translate", "the filter for the kernel", cause);
    let code = translate(filter, PacketAccess::Direct).map_err(failed)?;
    load_with(config, &CaptureSettings { filter: 1, ..settings }, Some(&code), shared)
}

fn load_with(
    config: &TapConfig,
    settings: &CaptureSettings,
    filter: Option<&[EbpfInstruction]>,
    shared: SharedMaps<'_>,
) -> Result<Loaded> {
    let globals = HashMap::from([("CAPTURE", (bytes_of(settings), true))]);
    let replaced = filter.map(|code| FunctionBody { name: FUNCTION, instructions: instructions(code) });
    let sizes = [("PACKETS", config.ring_bytes)];
    let (loaded, rejected) = Loaded::new_partial(OBJECT, globals, &sizes, &KINDS, replaced, shared)?;
    match rejected.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(loaded),
    }
}

/// In the form that the kernel takes.
pub(super) fn instructions(code: &[EbpfInstruction]) -> Vec<bpf_insn> {
    let instruction = |one: &EbpfInstruction| bpf_insn {
        code: one.code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(one.dst, one.src),
        off: one.offset,
        imm: one.constant,
    };
    code.iter().map(instruction).collect()
}

fn bytes_of(settings: &CaptureSettings) -> &[u8] {
    // SAFETY: `#[repr(C)]`, u32 only, no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(settings).cast(), size_of::<CaptureSettings>()) }
}

/// Loads a filter as a program of its own, which returns the number of bytes that it accepts.
#[cfg(test)]
pub(crate) fn load_alone(filter: &FilterProgram, access: PacketAccess, direction: u32) -> Result<std::os::fd::OwnedFd> {
    // The second argument: R2 becomes the direction.
    let direction = EbpfInstruction { code: 0xb7, dst: 2, src: 0, offset: 0, constant: direction.cast_signed() };
    let code = translate(filter, access).map_err(|cause| Error::other("translate", "a filter", cause))?;
    super::super::object::load_program("filter", CLASSIFIER, &instructions(&[&[direction], &code[..]].concat()))
}
