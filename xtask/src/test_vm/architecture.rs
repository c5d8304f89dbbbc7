//! The architectures of the kernels to boot: how each is named, built for and emulated.

use std::process::Command;

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// This machine's.
    Amd64,
    /// Arm with 64 bits: everything is compiled for it on this machine.
    Arm64,
}

impl Architecture {
    /// Debian's name.
    pub const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's target.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Debian packages that only this architecture needs, each with a program that exists when it
    /// is installed.
    pub const fn packages(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Amd64 => &[("qemu-system-x86", "qemu-system-x86_64")],
            Self::Arm64 => &[
                ("qemu-system-arm", "qemu-system-aarch64"),
                ("qemu-user", "qemu-aarch64"),
                ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
                ("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.so"),
            ],
        }
    }

    /// The tool of this architecture's binutils with this name.
    pub fn binutils(self, tool: &str) -> Command {
        match self {
            Self::Amd64 => Command::new(tool),
            Self::Arm64 => Command::new(format!("aarch64-linux-gnu-{tool}")),
        }
    }

    /// The program that emulates a whole machine, with the model of the machine. Two of its three
    /// CPUs are online after the boot, so that per-CPU code is tested with more than one, and so
    /// that possible CPUs and online CPUs differ.
    pub fn emulator(self, threads: Threads) -> Command {
        let thread = match threads {
            Threads::PerCpu => "thread=multi",
            Threads::One => "thread=single",
        };
        let (program, machine): (_, &[&str]) = match self {
            Self::Amd64 => ("qemu-system-x86_64", &["-cpu", "max", "-smp", "3,maxcpus=8"]),
            // The default algorithm of pointer authentication takes most of the time.
            Self::Arm64 => ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "3"]),
        };
        let mut emulator = Command::new(program);
        emulator.arg("-accel").arg(format!("tcg,{thread}")).args(machine);
        emulator
    }

    /// The kernel's name of the serial console.
    pub const fn console(self) -> &'static str {
        match self {
            Self::Amd64 => "ttyS0",
            Self::Arm64 => "ttyAMA0",
        }
    }
}

/// Threads of this machine that emulate the CPUs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One for each CPU, which run at the same time.
    PerCpu,
    /// One for all CPUs, which take turns.
    One,
}
