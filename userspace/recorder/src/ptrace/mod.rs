//! Records a command without privileges: by ptrace(2), which stops it twice at each of its calls.
//!
//! The observation is the one that eBPF would make of the same run. Needs Linux 5.3 (`PTRACE_GET_SYSCALL_INFO`, whose
//! `arch` tells the ABI of each call). Where the two differ, and why: docs/observation.md.
//!
//! ```text
//! Tracer::arm   forks; the child waits, traced
//! Tracer::start lets it execute the command
//! Tracer::poll  takes what the command and all that it makes stop for, and lets them go on
//! Tracer::leave lets go of what the command has left running
//! ```

mod filter;
mod lost;
mod request;
mod seen;

use crate::{
    clock,
    command::{self, CommandError, User},
    engine::command::Start,
    proc,
    recorder::{kernel_release, native, random_id},
};
use filter::{Filter, Filters};
use request::{End, Entry, Stop};
use seccast_model::{
    arch::Arch,
    evidence::{self, Evidence, Running},
    observation::{Backend, Caller, Machine, Observation, Phase, Sighting, Target},
    syscall,
};
use seen::Seen;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{CString, NulError},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    path::PathBuf,
    process::ExitStatus,
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

/// linux/audit.h.
const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_I386: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARM: u32 = 0x4000_0028;
/// __X32_SYSCALL_BIT of arch/x86/include/uapi/asm/unistd.h.
const X32_BIT: i32 = 0x4000_0000;
/// CLONE_UNTRACED of linux/sched.h: the kernel attaches nobody to what is made with it.
const UNTRACED: u64 = 0x0080_0000;
/// As long as a file name in an event of the eBPF side.
const FILE_NAME: usize = 255;
/// How long a new process waits for the event that names its parent, which was killed if it does not come.
const ORPHAN: Duration = Duration::from_millis(100);
/// How long what is let go of or killed is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command could not be traced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A system call failed.
    #[error("{action} failed")]
    Io {
        /// What.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// ptrace(2) is refused.
    #[error("not allowed to trace a process of our own: {why}")]
    Refused {
        /// What refuses it, and what to do.
        why: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No `PTRACE_GET_SYSCALL_INFO`.
    #[error(
        "ptrace of this kernel ({release}) does not tell the ABI of a call: Linux 5.3 or newer is needed"
    )]
    Kernel {
        /// `uname -r`.
        release: String,
    },
    /// This machine's ABI has no table.
    #[error("recording is not supported on {arch}: x86_64 and aarch64 are")]
    Arch {
        /// `std::env::consts::ARCH`.
        arch: &'static str,
    },
    /// The command did not start.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An argument holds a zero.
    #[error("an argument of the command holds a zero byte, which no program can be given")]
    Zero(#[from] NulError),
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> TraceError {
    move |source| TraceError::Io { action, source }
}

/// Something new for whoever shows progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A number's first call by the application.
    Call {
        /// Its name, or its number.
        name: String,
        /// Process id of the caller.
        pid: u32,
        /// Name of the caller.
        comm: String,
    },
    /// A program was executed that starts containers: its calls are not theirs.
    Containers {
        /// Its name.
        command: String,
    },
    /// A program was executed without the privileges that its file gives.
    Unprivileged {
        /// The file.
        file: String,
    },
}

/// A traced thread.
#[derive(Clone)]
struct Task {
    /// Its thread group.
    process: i32,
    /// The file name given to the execve that made its program.
    image: Option<Arc<str>>,
    filters: Filters,
    /// What the call does that it is in, if it succeeds.
    intent: Intent,
    /// Which signals have come since its last call was cut short: `Some(true)` when it ignores all of them.
    only_ignored: Option<bool>,
}

impl Task {
    fn new(process: i32) -> Self {
        Self {
            process,
            image: None,
            filters: Filters::default(),
            intent: Intent::Other,
            only_ignored: None,
        }
    }
}

/// What is about to be executed.
#[derive(Clone)]
struct Program {
    /// The file name that the kernel gives it.
    name: Arc<str>,
    /// The file: to be looked up before, since a program that may be executed and not read hides itself.
    file: PathBuf,
}

#[derive(Clone, Default)]
enum Intent {
    #[default]
    Other,
    Execute(Option<Program>),
    Install {
        filter: Filter,
        flags: u64,
    },
    Untraced,
}

/// A traced command with everything that it makes.
pub struct Tracer {
    root: i32,
    command: Vec<String>,
    arch: Arch,
    go: Option<File>,
    errno: File,
    tasks: HashMap<i32, Task>,
    /// New ones whose parents have not told of them yet, with what they stopped for.
    held: HashMap<i32, (Stop, Instant)>,
    /// The child waits to be told to go: what it calls from then on counts.
    armed: bool,
    phase: Phase,
    status: Option<ExitStatus>,
    seen: Seen,
    news: Vec<News>,
    filtered: bool,
    own_filter: bool,
    untraced: u64,
    unprivileged: BTreeSet<String>,
    libc: Option<String>,
    id: String,
    started_ns: u64,
    started_ktime: u64,
    mask: libc::sigset_t,
}

impl Tracer {
    /// Forks a child that will execute `command`, and traces it: nothing of it has run yet.
    ///
    /// # Errors
    /// When the kernel refuses to trace, or is older than 5.3.
    pub fn arm(command: &[String], user: Option<User>) -> Result<Self, TraceError> {
        let arch = native().ok_or(TraceError::Arch {
            arch: std::env::consts::ARCH,
        })?;
        let arguments = command
            .iter()
            .map(|argument| CString::new(argument.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(ptr::null());
        let (wait, go) = pipe()?;
        let (errno, say) = pipe()?;
        // What stops is said by SIGCHLD, which is waited for with a limit: it must not be lost in between.
        let mask = block_sigchld();
        // Who ignores SIGCHLD, as whoever started seccast may have told it to, gets no exit status.
        // SAFETY: no handler is set.
        let on_child = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        // SAFETY: the child calls async-signal-safe functions only; what it uses was made before.
        let root = match unsafe { libc::fork() } {
            -1 => return Err(failed("fork")(io::Error::last_os_error())),
            0 => {
                // SAFETY: this is the child; the pointers end with a null and outlive it.
                unsafe { child(&wait, &say, &pointers, user, on_child) }
            }
            pid => pid,
        };
        let mut tracer = Self {
            root,
            command: command.to_vec(),
            arch,
            go: Some(go.into()),
            errno: errno.into(),
            tasks: HashMap::new(),
            held: HashMap::new(),
            armed: false,
            phase: Phase::Runtime,
            status: None,
            seen: Seen::default(),
            news: Vec::new(),
            filtered: proc::seccomp(std::process::id()).is_some_and(|mode| mode != 0),
            own_filter: false,
            untraced: 0,
            unprivileged: BTreeSet::new(),
            libc: None,
            id: random_id(),
            started_ns: clock::unix_ns(),
            started_ktime: clock::monotonic_ns(),
            mask,
        };
        drop((wait, say));
        request::seize(root)
            .and_then(|()| request::interrupt(root))
            .map_err(|source| TraceError::Refused {
                why: refusal(yama_scope(), proc::has_capability(CAP_SYS_PTRACE)),
                source,
            })?;
        // Stopped, it cannot have left the call in which it waits when it is told to go.
        request::stopped(root).map_err(failed("wait for the child"))?;
        tracer.tasks.insert(root, Task::new(root));
        Ok(tracer)
    }

    /// Lets the child execute the command, and returns when it has.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(&mut self) -> Result<(), TraceError> {
        if let Some(mut go) = self.go.take() {
            go.write_all(&[1]).map_err(failed("write to the child"))?;
            request::resume(self.root, 0);
        }
        while self.phase == Phase::Runtime && self.status.is_none() {
            self.take(Duration::from_millis(20))?;
        }
        let mut errno = [0; 4];
        if self.phase == Phase::Runtime && self.errno.read_exact(&mut errno).is_ok() {
            let program = self.command.first().cloned().unwrap_or_default();
            let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            return Err(CommandError::not_executed(program, source).into());
        }
        Ok(())
    }

    /// Process id of the command.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.root.unsigned_abs()
    }

    /// How the command has ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: no pointers; it is not reaped yet, so the id is its own.
            let _ = unsafe { libc::kill(self.root, signal) };
        }
    }

    /// Takes in what stops within `timeout`, or until the command has ended.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn poll(&mut self, timeout: Duration) -> Result<Vec<News>, TraceError> {
        self.take(timeout)?;
        Ok(mem::take(&mut self.news))
    }

    fn take(&mut self, timeout: Duration) -> Result<(), TraceError> {
        let deadline = Instant::now() + timeout;
        while self.status.is_none() {
            match self.next(deadline)? {
                Some((tid, stop)) => self.handle(tid, stop)?,
                None => break,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        self.adopt_orphans()
    }

    /// The next stop; `None` when the time is over or nothing is left.
    fn next(&self, deadline: Instant) -> Result<Option<(i32, Stop)>, TraceError> {
        loop {
            match request::next() {
                Ok(Some(next)) => return Ok(Some(next)),
                Ok(None) => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("wait for the command")(error)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !wait_for_sigchld(left) {
                return Ok(None);
            }
        }
    }

    fn handle(&mut self, tid: i32, stop: Stop) -> Result<(), TraceError> {
        if let Stop::Ended(status) = stop {
            self.tasks.remove(&tid);
            self.held.remove(&tid);
            if tid == self.root {
                self.status = Some(ExitStatus::from_raw(status));
            }
            return Ok(());
        }
        if stop == Stop::Executed {
            self.executed(tid);
        }
        if !self.tasks.contains_key(&tid) {
            self.held.insert(tid, (stop, Instant::now()));
            return Ok(());
        }
        let mut signal = 0;
        match stop {
            Stop::Call => match request::end(tid).map_err(old_kernel)? {
                Some(End::Entry(entry)) => self.entered(tid, &entry),
                Some(End::Exit(value)) => self.left(tid, value),
                None => {}
            },
            Stop::Forked => {
                if let Some(child) = request::message(tid) {
                    self.adopt(child, tid)?;
                }
            }
            Stop::Group => {
                if let Some(task) = self.tasks.get_mut(&tid) {
                    task.only_ignored = Some(false);
                }
                request::listen(tid);
                return Ok(());
            }
            Stop::Signal(number) => {
                signal = number;
                let ignored = ignores(tid, number);
                if let Some(task) = self.tasks.get_mut(&tid) {
                    task.only_ignored = Some(task.only_ignored.unwrap_or(true) && ignored);
                }
                if !ignored {
                    self.look_for_libc(tid);
                }
            }
            Stop::Trap | Stop::Executed | Stop::Ended(_) => {}
        }
        request::resume(tid, signal);
        Ok(())
    }

    /// A new process or thread is what made it, but for its id.
    fn adopt(&mut self, child: i32, parent: i32) -> Result<(), TraceError> {
        let Some(parent) = self.tasks.get(&parent) else {
            return Ok(());
        };
        let task = Task {
            process: proc::thread_group(child).unwrap_or(child),
            intent: Intent::Other,
            only_ignored: None,
            ..parent.clone()
        };
        self.tasks.insert(child, task);
        match self.held.remove(&child) {
            Some((stop, _)) => self.handle(child, stop),
            None => Ok(()),
        }
    }

    /// Those whose parents were killed before they could tell.
    fn adopt_orphans(&mut self) -> Result<(), TraceError> {
        let orphans: Vec<_> = self
            .held
            .iter()
            .filter(|(_, (_, since))| since.elapsed() >= ORPHAN)
            .map(|(tid, _)| *tid)
            .collect();
        for tid in orphans {
            let known = |id: Option<i32>| id.filter(|id| self.tasks.contains_key(id));
            let parent = known(proc::thread_group(tid))
                .or_else(|| {
                    let parent = proc::parent(tid.unsigned_abs())?;
                    known(i32::try_from(parent).ok())
                })
                .or_else(|| self.tasks.keys().next().copied());
            match parent {
                Some(parent) => self.adopt(tid, parent)?,
                // Nothing else is left to be like.
                None => request::detach(tid, 0),
            }
        }
        Ok(())
    }

    /// A program was executed: by whichever thread, it is the leader now, and the only one.
    fn executed(&mut self, tid: i32) {
        self.phase = Phase::App;
        let former = request::message(tid).filter(|former| *former != tid);
        let task = former
            .and_then(|former| self.tasks.remove(&former))
            .or_else(|| self.tasks.get(&tid).cloned());
        let Some(mut task) = task else { return };
        let program = match mem::take(&mut task.intent) {
            Intent::Execute(program) => program,
            _ => None,
        };
        task.image = program.as_ref().map(|program| program.name.clone());
        self.tasks.retain(|_, other| other.process != tid);
        self.tasks.insert(tid, task);
        let Some(Program { name, file }) = program else {
            return;
        };
        // Of a script the interpreter's line is read, in which the script is an argument.
        let mut command = proc::command_line(tid.unsigned_abs()).unwrap_or_default();
        if let Some(script) = command.iter().position(|word| **word == *name) {
            command.drain(..script);
        }
        if let Some(start) = Start::parse(&command) {
            self.news.push(News::Containers {
                command: start.kind().name().to_owned(),
            });
        }
        if let Some(file) = lost::privileges(tid, &file)
            && self.unprivileged.insert(file.clone())
        {
            self.news.push(News::Unprivileged { file });
        }
    }

    /// A thread enters a call. Its filters have not seen it yet (since 4.8).
    fn entered(&mut self, tid: i32, entry: &Entry) {
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        task.intent = Intent::Other;
        let Some((arch, nr)) = split(entry) else {
            return;
        };
        let name = u32::try_from(nr)
            .ok()
            .and_then(|nr| syscall::name(arch, nr));
        if !self.armed {
            // In which it waits to be told to go.
            self.armed = name == Some("read");
            return;
        }
        let (process, started) = (task.process, self.started_ktime);
        let image = task.image.clone();
        let first = move || Sighting {
            first_ns: Some(clock::monotonic_ns().saturating_sub(started)),
            caller: Some(Caller {
                pid: process.unsigned_abs(),
                comm: proc::comm(tid.unsigned_abs()).unwrap_or_default(),
                exe: image.as_deref().map(str::to_owned),
                ..Caller::default()
            }),
            ..Sighting::default()
        };
        if task.filters.deny(entry) {
            self.seen.denied(self.phase, arch, nr, first);
            return;
        }
        // A signal that a thread ignores does not reach it at all, unless it is traced: then it cuts its call short.
        if name == Some("restart_syscall") && task.only_ignored == Some(true) {
            return;
        }
        let [a, b, c, ..] = entry.args;
        task.intent = match name {
            Some("execve") => Intent::Execute(program(tid, libc::AT_FDCWD, a)),
            Some("execveat") => Intent::Execute(program(tid, (a as u32).cast_signed(), b)),
            // SECCOMP_SET_MODE_STRICT, SECCOMP_SET_MODE_FILTER; PR_SET_SECCOMP with the modes.
            Some("seccomp") if a <= 1 => install(tid, arch, a == 0, b, c),
            Some("prctl") if a == 22 && (b == 1 || b == 2) => install(tid, arch, b == 1, 0, c),
            Some("clone") if a & UNTRACED != 0 => Intent::Untraced,
            Some("clone3")
                if request::memory(tid, a, 8)
                    .and_then(|bytes| bytes.try_into().ok())
                    .is_some_and(|flags| u64::from_ne_bytes(flags) & UNTRACED != 0) =>
            {
                Intent::Untraced
            }
            _ => Intent::Other,
        };
        if let seen::News::First(name) = self.seen.called(self.phase, arch, nr, entry, first)
            && self.phase == Phase::App
        {
            self.news.push(News::Call {
                name,
                pid: process.unsigned_abs(),
                comm: proc::comm(tid.unsigned_abs()).unwrap_or_default(),
            });
        }
        if name == Some("exit_group") {
            self.look_for_libc(tid);
        }
    }

    /// A thread leaves a call with this result.
    fn left(&mut self, tid: i32, value: i64) {
        let Some(task) = self.tasks.get_mut(&tid) else {
            return;
        };
        task.only_ignored = None;
        match mem::take(&mut task.intent) {
            Intent::Install { filter, flags } => {
                const TSYNC: u64 = 1;
                const NEW_LISTENER: u64 = 8;
                // With TSYNC alone a positive result is the thread that could not follow.
                if value == 0 || value > 0 && flags & NEW_LISTENER != 0 {
                    let process = task.process;
                    let filters = task.filters.with(filter);
                    task.filters = filters.clone();
                    self.own_filter = true;
                    if flags & TSYNC != 0 {
                        let all = self.tasks.values_mut();
                        all.filter(|other| other.process == process)
                            .for_each(|other| other.filters = filters.clone());
                    }
                }
            }
            Intent::Untraced if value > 0 => self.untraced += 1,
            _ => {}
        }
    }

    fn look_for_libc(&mut self, tid: i32) {
        if self.libc.is_none() && self.phase == Phase::App {
            self.libc = proc::libc(tid.unsigned_abs());
        }
    }

    /// The calls so far.
    #[must_use]
    pub fn observe(&self) -> Observation {
        let mut losses = BTreeMap::new();
        if self.untraced > 0 {
            losses.insert("untraced".to_owned(), self.untraced);
        }
        let machine = Machine {
            kernel: kernel_release(),
            arch: self.arch,
            libc: self.libc.clone().or_else(|| proc::libc(self.pid())),
            extra: BTreeMap::new(),
        };
        let mut observation = Observation {
            target: Target {
                command: self.command.clone(),
                ..Target::default()
            },
            started_ns: self.started_ns,
            ended_ns: clock::unix_ns(),
            losses,
            filtered: self.filtered,
            own_filter: self.own_filter,
            unprivileged_exec: self.unprivileged.clone(),
            ..Observation::new(self.id.clone(), Backend::Ptrace, machine)
        };
        self.seen.observe(&mut observation);
        let mut evidence = Evidence::default();
        if self.phase == Phase::App {
            // Filters are not counted here: a verdict is never by ptrace.
            evidence.starts.push(evidence::Start::default());
        }
        let processes: BTreeSet<_> = self.tasks.values().map(|task| task.process).collect();
        for pid in processes
            .into_iter()
            .filter_map(|pid| u32::try_from(pid).ok())
        {
            if !proc::is_dead(pid) {
                let comm = proc::comm(pid).unwrap_or_default();
                evidence.running.insert(Running { pid, comm });
            }
        }
        evidence.count_calls(&observation);
        observation.evidence = Some(evidence);
        observation
    }

    /// What may have been missed so far.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.untraced
    }

    /// Kills the command with everything that it has made.
    pub fn kill(&self) {
        let known = self.tasks.values().map(|task| task.process);
        for pid in known.chain(self.held.keys().copied()) {
            kill(pid);
        }
    }

    /// The same, and waits for the ends.
    pub fn end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        if self.status.is_none() {
            kill(self.root);
        }
        self.kill();
        // What was forked meanwhile reports itself.
        while let Ok(Some((tid, stop))) = self.next(deadline) {
            match stop {
                Stop::Ended(status) => {
                    if tid == self.root {
                        self.status = Some(ExitStatus::from_raw(status));
                    }
                }
                _ => kill(tid),
            }
        }
        self.tasks.clear();
        self.held.clear();
    }

    /// Lets go of what still runs after the command's end; it goes on by itself. Returns its names.
    #[must_use]
    pub fn leave(mut self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let (mut left, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for (tid, (stop, _)) in mem::take(&mut self.held) {
            gone.insert(tid);
            left.insert(proc::thread_group(tid).unwrap_or(tid));
            self.let_go(tid, stop);
        }
        for (tid, task) in &self.tasks {
            left.insert(task.process);
            let _ = request::interrupt(*tid);
        }
        while !self.tasks.is_empty()
            && let Ok(Some((tid, stop))) = self.next(deadline)
        {
            match (stop, request::message(tid)) {
                (Stop::Executed, _) => self
                    .tasks
                    .retain(|id, task| *id == tid || task.process != tid),
                // It may have stopped before this.
                (Stop::Forked, Some(child)) if !gone.contains(&child) => {
                    let process = proc::thread_group(child).unwrap_or(child);
                    left.insert(process);
                    self.tasks.insert(child, Task::new(process));
                }
                _ => {}
            }
            gone.insert(tid);
            self.let_go(tid, stop);
        }
        // What could not be stopped within the time ends with its tracer (EXITKILL).
        left.into_iter()
            .filter_map(|process| {
                let pid = process.unsigned_abs();
                Some(format!(
                    "{} ({pid})",
                    proc::comm(pid).filter(|_| !proc::is_dead(pid))?
                ))
            })
            .collect()
    }

    fn let_go(&mut self, tid: i32, stop: Stop) {
        self.tasks.remove(&tid);
        match stop {
            Stop::Ended(_) => {}
            Stop::Signal(signal) => request::detach(tid, signal),
            _ => request::detach(tid, 0),
        }
    }
}

impl Drop for Tracer {
    /// After [`Tracer::leave`] nothing is left; without it, a failure of the recorder's ends what it started.
    fn drop(&mut self) {
        if self.status.is_none() || !self.tasks.is_empty() {
            self.end();
        }
        // SAFETY: a valid mask; the former one is not asked for.
        let _ = unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut())
        };
    }
}

/// Executes the command once it is told to; what fails is said through `say`.
///
/// # Safety
/// Only in a child that was just forked: of other threads' locks nothing is known. `arguments` ends with a null.
unsafe fn child(
    wait: &OwnedFd,
    say: &OwnedFd,
    arguments: &[*const libc::c_char],
    user: Option<User>,
    on_child: libc::sighandler_t,
) -> ! {
    // SAFETY: async-signal-safe system calls with valid pointers to locals; execvp allocates nothing (glibc, musl).
    unsafe {
        // As every program expects to be started: what seccast has set does not outlive it.
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGCHLD, on_child);
        let mut byte = 0u8;
        // Nobody tells it to go when the tracer has failed.
        if libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(125);
        }
        let became = user.map_or(Ok(()), command::become_user);
        if let Some((program, Ok(()))) = arguments.first().map(|program| (*program, became)) {
            libc::execvp(program, arguments.as_ptr());
        }
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(say.as_raw_fd(), errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

/// Both ends close when a program is executed.
fn pipe() -> Result<(OwnedFd, OwnedFd), TraceError> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(failed("pipe")(io::Error::last_os_error()));
    }
    // SAFETY: the descriptors were just made and have no other owner.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

fn sigchld() -> libc::sigset_t {
    // SAFETY: a set of integers, made empty before it is used.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        set
    }
}

/// Blocks SIGCHLD in this thread, which is the one that traces; returns the former mask.
fn block_sigchld() -> libc::sigset_t {
    let mut former = sigchld();
    // SAFETY: valid sets.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const former, &raw mut former) };
    former
}

/// Waits for a SIGCHLD; false when the time is over, or another signal came.
fn wait_for_sigchld(limit: Duration) -> bool {
    let time = libc::timespec {
        tv_sec: limit.as_secs().cast_signed(),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let set = sigchld();
    // SAFETY: valid set and time; what came is not asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const time) };
    signal == libc::SIGCHLD
}

fn kill(pid: i32) {
    // SAFETY: no pointers; a traced process is reaped after its tracer has heard of its end, so the id is its own.
    let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn old_kernel(source: io::Error) -> TraceError {
    match source.raw_os_error() {
        // PTRACE_GET_SYSCALL_INFO is unknown.
        Some(libc::EIO | libc::EINVAL) => TraceError::Kernel {
            release: kernel_release(),
        },
        _ => failed("PTRACE_GET_SYSCALL_INFO")(source),
    }
}

/// The ABI of a call, and its number without bit 30; `None` for an ABI that no such machine has.
fn split(entry: &Entry) -> Option<(Arch, i64)> {
    const MARKED: i32 = X32_BIT | (seccast_common::NUMBERS as i32 - 1);
    match entry.arch {
        AUDIT_X86_64 if entry.nr & !MARKED == 0 && entry.nr & X32_BIT != 0 => {
            Some((Arch::X32, i64::from(entry.nr & !X32_BIT)))
        }
        AUDIT_X86_64 => Some((Arch::X86_64, entry.nr.into())),
        AUDIT_I386 => Some((Arch::X86, entry.nr.into())),
        AUDIT_AARCH64 => Some((Arch::Aarch64, entry.nr.into())),
        AUDIT_ARM => Some((Arch::Arm, entry.nr.into())),
        _ => None,
    }
}

/// The program that execve or execveat names. `None` where that cannot be read, and so not executed.
fn program(tid: i32, directory: i32, address: u64) -> Option<Program> {
    let given = request::text(tid, address, FILE_NAME)?;
    let name = at(directory, &given);
    let process = PathBuf::from(format!("/proc/{tid}"));
    let file = match (given.as_str(), directory) {
        ("", _) => process.join(format!("fd/{directory}")),
        (file, _) if file.starts_with('/') => process.join("root").join(&file[1..]),
        (file, libc::AT_FDCWD) => process.join("cwd").join(file),
        (file, _) => process.join(format!("fd/{directory}")).join(file),
    };
    // By its present name, for the time when /proc no longer tells it.
    Some(Program {
        name: name.into(),
        file: fs::canonicalize(&file).unwrap_or(file),
    })
}

/// The file name that the kernel gives a program.
fn at(directory: i32, file: &str) -> String {
    match file {
        _ if file.starts_with('/') || directory == libc::AT_FDCWD => file.to_owned(),
        "" => format!("/dev/fd/{directory}"),
        _ => format!("/dev/fd/{directory}/{file}"),
    }
}

/// A filter that is about to be installed: `struct sock_fprog` in the layout of the call's ABI.
fn install(tid: i32, arch: Arch, strict: bool, flags: u64, address: u64) -> Intent {
    if strict {
        return Intent::Install {
            filter: Filter::Strict,
            flags,
        };
    }
    let read = || {
        let length = request::memory(tid, address, 2)?;
        let length = u16::from_ne_bytes(length.try_into().ok()?).min(filter::LONGEST);
        let program = match arch {
            Arch::X86 | Arch::X32 | Arch::Arm => {
                let pointer = request::memory(tid, address + 4, 4)?;
                u32::from_ne_bytes(pointer.try_into().ok()?).into()
            }
            Arch::X86_64 | Arch::Aarch64 | Arch::Riscv64 => {
                let pointer = request::memory(tid, address + 8, 8)?;
                u64::from_ne_bytes(pointer.try_into().ok()?)
            }
        };
        request::memory(tid, program, usize::from(length) * 8)
    };
    // What cannot be read here the kernel cannot read either, and refuses.
    read().map_or(Intent::Other, |program| Intent::Install {
        filter: Filter::Program(filter::instructions(&program)),
        flags,
    })
}

/// Would a thread not even notice this signal if nobody traced it?
fn ignores(tid: i32, signal: i32) -> bool {
    const HARMLESS: [i32; 4] = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let text = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let has = |field: &str| {
        let mask = text.lines().find_map(|line| line.strip_prefix(field));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    has("SigIgn:") || HARMLESS.contains(&signal) && !has("SigCgt:")
}

/// linux/capability.h.
const CAP_SYS_PTRACE: u32 = 19;

/// What the Yama module allows: 0 to 3; `None` where there is none.
#[must_use]
pub fn yama_scope() -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()?;
    text.trim().parse().ok()
}

/// Why tracing is refused.
fn refusal(scope: Option<u32>, capable: bool) -> String {
    match (scope, capable) {
        (Some(3), _) => "kernel.yama.ptrace_scope is 3, which forbids ptrace to everybody until the next boot; record with eBPF, as root".to_owned(),
        (Some(2), false) => "kernel.yama.ptrace_scope is 2, which asks for CAP_SYS_PTRACE; record with eBPF, as root, or set it to 1".to_owned(),
        _ => "a seccomp filter or a security module of this machine or container refuses ptrace(2); record with eBPF, as root".to_owned(),
    }
}

/// Can processes of one's own be traced here? Why not, if they cannot.
///
/// # Errors
/// The reason, with what to do.
pub fn available() -> Result<(), String> {
    let capable = proc::has_capability(CAP_SYS_PTRACE);
    match yama_scope() {
        scope @ Some(3) => Err(refusal(scope, capable)),
        scope @ Some(2) if !capable => Err(refusal(scope, capable)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(arch: u32, nr: i32) -> Entry {
        Entry {
            nr,
            arch,
            ..Entry::default()
        }
    }

    #[test]
    fn the_abi_of_a_call_is_that_of_its_entry() {
        for (arch, nr, expected) in [
            (AUDIT_X86_64, 39, Some((Arch::X86_64, 39))),
            (AUDIT_X86_64, X32_BIT | 512, Some((Arch::X32, 512))),
            (
                AUDIT_X86_64,
                X32_BIT | 1024,
                Some((Arch::X86_64, 0x4000_0400)),
            ),
            (AUDIT_X86_64, -1, Some((Arch::X86_64, -1))),
            (AUDIT_I386, 20, Some((Arch::X86, 20))),
            (AUDIT_AARCH64, 172, Some((Arch::Aarch64, 172))),
            (AUDIT_ARM, 20, Some((Arch::Arm, 20))),
            (0xc000_00f3, 20, None),
        ] {
            assert_eq!(split(&entry(arch, nr)), expected);
        }
    }

    #[test]
    fn a_file_of_execveat_is_named_as_the_kernel_names_it() {
        assert_eq!(at(libc::AT_FDCWD, "a"), "a");
        assert_eq!(at(5, "/a"), "/a");
        assert_eq!(at(5, ""), "/dev/fd/5");
        assert_eq!(at(5, "a"), "/dev/fd/5/a");
    }

    #[test]
    fn yama_is_named_where_it_is_the_cause() {
        assert!(refusal(Some(3), true).contains("ptrace_scope is 3"));
        assert!(refusal(Some(2), false).contains("ptrace_scope is 2"));
        for other in [
            refusal(Some(2), true),
            refusal(Some(1), false),
            refusal(None, false),
        ] {
            assert!(!other.contains("yama"), "{other}");
        }
    }
}
