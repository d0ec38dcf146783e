//! Seccomp architectures: one per system call ABI, named as OCI names them.

use std::fmt;

/// A system call ABI, as seccomp(2) and OCI `architectures` tell them apart.
///
/// x32 shares its numbers with x86_64 up to bit 30, and is an architecture of its own to libseccomp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// i386: 32-bit programs, and `int 0x80` from 64-bit ones.
    X86,
    /// x32: 64-bit mode, 32-bit pointers, bit 30 of the number set.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm, EABI: 32-bit programs on an arm64 kernel as well.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Arch {
    /// Every architecture that has a table here.
    pub const ALL: [Self; 6] = [
        Self::X86_64,
        Self::X86,
        Self::X32,
        Self::Aarch64,
        Self::Arm,
        Self::Riscv64,
    ];

    /// The name used in observation files and on the command line: `x86_64`, `i386`, `x32`, `aarch64`, `arm`, `riscv64`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::X86 => "i386",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
        }
    }

    /// The token of OCI's `architectures` list.
    #[must_use]
    pub fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// The native ABI of the machines that run this one.
    #[must_use]
    pub fn native(self) -> Self {
        match self {
            Self::X86_64 | Self::X86 | Self::X32 => Self::X86_64,
            Self::Aarch64 | Self::Arm => Self::Aarch64,
            Self::Riscv64 => Self::Riscv64,
        }
    }

    /// The kernel's number for it, `AUDIT_ARCH_…` of linux/audit.h: x86_64 and x32 share one.
    #[must_use]
    pub fn audit_token(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
        }
    }

    /// The inverse of [`Arch::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// The inverse of [`Arch::oci_name`].
    #[must_use]
    pub fn from_oci_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.oci_name() == name)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
