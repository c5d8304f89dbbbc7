//! Sizes of the programs, and the cost of verifying them.

use std::os::fd::{AsFd, BorrowedFd};

use netwatch::meter::{KernelMeter, KernelMeterConfig, sys};

use super::super::EngineOptions;
use super::super::subject;
use crate::Result;

/// Prints a line for each program of netwatch, of the object of `--object`, and of the reference.
pub fn print(options: &EngineOptions) -> Result {
    println!("{:32} {:>10} {:>14} {:>14}", "program", "verified", "BPF code, B", "machine code, B");
    let meter = KernelMeter::load(&KernelMeterConfig::default()).map_err(|error| error.to_string())?;
    let mut programs: Vec<_> = meter.named_programs().collect();
    programs.sort_by_key(|(name, _)| *name);
    programs.iter().try_for_each(|(name, program)| line(&format!("netwatch {name}"), *program))?;
    let total = meter.verified_instructions().map_err(|error| error.to_string())?;
    println!("{:32} {total:10}", "netwatch, all");
    if let Some(foreign) = &options.foreign {
        let mut object = subject::load(&foreign.object)?;
        let names: Vec<String> = object.programs().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            line(&format!("object {name}"), subject::program(&mut object, &name)?.as_fd())?;
        }
    }
    for reference in [options.reference.empty()?, options.reference.plain()?] {
        line(reference.name, reference.program())?;
    }
    Ok(())
}

fn line(name: &str, program: BorrowedFd<'_>) -> Result {
    let info = sys::program_info(program).map_err(|error| format!("cannot query the kernel about {name}: {error}"))?;
    println!("{name:32} {:10} {:14} {:14}", info.verified_insns, info.xlated_prog_len, info.jited_prog_len);
    Ok(())
}
