//! Load beside a test: what works only on a quiet machine fails beside it.

use std::fs::{File, TryLockError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A processor's loop has this file, with the processor's number behind it, locked: tests beside each other share one for each
/// processor, or they would have a third and a fourth beside them.
const LOCK: &str = "/run/seccast-test.busy";

/// How soon a loop begins when another test's has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// Threads that do nothing but burn a processor each, or wait while somebody else does; stopped on drop.
#[derive(Debug)]
pub struct BusyLoops {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyLoops {
    /// Has `count` loops run, each pinned to a processor, the first to the first.
    #[must_use]
    pub fn start(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = |index: usize| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                // Held to the end of the thread. Where nobody may write there, nobody else's loop is waited for.
                let lock = File::create(format!("{LOCK}{index}"));
                while !stop.load(Ordering::Relaxed) {
                    match lock.as_ref().map(File::try_lock) {
                        Ok(Err(TryLockError::WouldBlock)) => std::thread::sleep(PAUSE),
                        _ => break,
                    }
                }
                pin(index % processors);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..count).map(spin).collect();
        Self { stop, threads }
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A loop cannot panic.
            let _ = thread.join();
        }
    }
}

/// Binds the calling thread to one processor; where that is not allowed, it stays where it is.
fn pin(processor: usize) {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid, and CPU_SET checks its bound.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the size is the set's own; 0 is the calling thread.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}
