//! What seccast loads into the kernel: a table of contents. See `ebpf/README.md` for hooks, maps and kernel versions.
#![no_std]
#![no_main]
// Inline assembly for this target is not stable yet: `maps::increment` has the one use.
#![feature(asm_experimental_arch)]

mod arguments;
mod cgroups;
mod denied;
mod globals;
mod lifecycle;
mod maps;
mod members;
mod provenance;
mod sys_enter;
mod task;
mod tasks;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel's licence check: GPL-only helpers (probe_read_kernel, ring buffers) are used.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
