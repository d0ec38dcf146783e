//! The measured process: a tight loop around the cheapest call that the kernel really makes.

use std::{
    io::{self, BufRead as _, Write as _},
    mem::MaybeUninit,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// How often a sample is taken again because the loop was interrupted by another task.
const AGAIN: u32 = 20;

/// Pins itself, then for each line `SAMPLES CALLS` makes that many samples of that many calls and answers with one
/// line: how many were disturbed to the end, then nanoseconds per call of each sample.
pub(crate) fn run(cpu: usize) -> Result<()> {
    pin(cpu)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line.context("cannot read what to do")?;
        let mut words = line.split(' ').map(str::parse::<u32>);
        let (Some(Ok(samples)), Some(Ok(calls))) = (words.next(), words.next()) else {
            bail!("`{line}` is not SAMPLES CALLS");
        };
        // Before and after: a real-time task is not preempted by others, but may not run all the time.
        let real_time = schedule(libc::SCHED_FIFO, 1);
        let mut disturbed = 0;
        let mut answer = String::new();
        for _ in 0..samples {
            let (took, quiet) = sample(calls);
            disturbed += u32::from(!quiet);
            answer.push_str(&format!(" {took:.3}"));
        }
        if real_time {
            schedule(libc::SCHED_OTHER, 0);
        }
        writeln!(out, "{disturbed}{answer}")
            .and_then(|()| out.flush())
            .context("cannot answer")?;
    }
    Ok(())
}

/// Nanoseconds per call, and whether nothing else ran on this CPU meanwhile.
fn sample(calls: u32) -> (f64, bool) {
    let mut took = f64::MAX;
    for _ in 0..AGAIN {
        let before = preemptions();
        took = time(calls);
        if preemptions() == before {
            return (took, true);
        }
    }
    (took, false)
}

fn time(calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        // SAFETY: the call has no argument. Through `syscall`, as a C library could answer by itself.
        let _ = unsafe { libc::syscall(libc::SYS_getppid) };
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// How often this thread was preempted.
fn preemptions() -> libc::c_long {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: a valid buffer; zeros are a value of it, should the call fail.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nivcsw
    }
}

fn schedule(policy: i32, priority: i32) -> bool {
    // SAFETY: zeros are a value of this structure.
    let mut parameters: libc::sched_param = unsafe { MaybeUninit::zeroed().assume_init() };
    parameters.sched_priority = priority;
    // SAFETY: a valid pointer to a local. Where it is refused, samples are only disturbed more often.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// Binds this thread to a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    // SAFETY: an empty set is a value of it; `CPU_SET` checks its index.
    let set = unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: a valid pointer and its size.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot run on CPU {cpu}"));
    }
    Ok(())
}
