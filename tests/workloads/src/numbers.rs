//! The lists of calls that `storm`, `race`, `forks` and `reuse` read from stdin.

use seccast_model::arch::Arch;

/// How many numbers the programs take at most.
pub const MAX: usize = 4096;

/// The list as the programs read it. Numbers are those of the ABI, for x32 without bit 30.
///
/// # Panics
/// When the list is longer than [`MAX`], or has an ABI that an x86_64 program cannot call.
#[must_use]
pub fn encode(calls: &[(Arch, u32)]) -> Vec<u8> {
    assert!(calls.len() <= MAX, "{} calls do not fit", calls.len());
    calls
        .iter()
        .flat_map(|&(arch, nr)| entry(arch, nr).to_ne_bytes())
        .collect()
}

/// One entry: bit 31 for i386, bit 30 for x32.
fn entry(arch: Arch, nr: u32) -> u32 {
    match arch {
        Arch::X86_64 => nr,
        Arch::X86 => nr | 0x8000_0000,
        Arch::X32 => nr | 0x4000_0000,
        Arch::Aarch64 | Arch::Arm | Arch::Riscv64 => {
            unreachable!("an x86_64 program has no {arch} calls")
        }
    }
}

/// The arguments with which `one` makes the call.
#[must_use]
pub fn one(arch: Arch, nr: u32) -> [String; 2] {
    match arch {
        Arch::X86 => ["i386".into(), nr.to_string()],
        _ => ["x86_64".into(), entry(arch, nr).to_string()],
    }
}
