//! Programs of the whole machine at the hooks that are measured: others' would be taken for ours, or for nothing.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use aya::programs::loaded_programs;

use crate::overhead::check_interrupted;

/// BPF_PROG_TYPE_TRACEPOINT, _RAW_TRACEPOINT, _RAW_TRACEPOINT_WRITABLE, _TRACING of linux/bpf.h.
const TRACING: [u32; 4] = [5, 17, 24, 26];

/// Ids of loaded programs that run at every system call, as far as their names tell: tracers name a program after its
/// hook.
pub(crate) fn at_system_calls() -> BTreeSet<u32> {
    let relevant = |name: &str| {
        ["sys_enter", "sys_exit", "inside", "empty"]
            .iter()
            .any(|hook| name.contains(hook))
    };
    loaded_programs()
        .flatten()
        .filter(|program| TRACING.contains(&(program.program_type() as u32)))
        .filter(|program| program.name_as_str().is_some_and(relevant))
        .map(|program| program.id())
        .collect()
}

/// Waits until no such program is loaded. False if the patience ended first.
pub(crate) fn wait_for_none(patience: Duration) -> Result<bool> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !at_system_calls().is_empty() {
        check_interrupted()?;
        if start.elapsed() >= patience {
            return Ok(false);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(true)
}

/// Waits until at least one is: another program attaches it when it likes.
pub(crate) fn wait_for_some(patience: Duration) -> Result<()> {
    let start = Instant::now();
    while at_system_calls().is_empty() {
        check_interrupted()?;
        if start.elapsed() >= patience {
            bail!("no program was attached within {} s", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
