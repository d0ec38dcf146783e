//! One or more recordings on one loaded object: watching, the events, and the observation at the end.

mod denials;
mod files;
mod observe;

use crate::{
    arguments,
    cgroup::{Cgroup, CgroupError, Hierarchy, Tree, is_id},
    clock,
    engine::{Client, Details},
    kernel::{Event, Kernel, KernelError, SlotId},
    proc,
    runtime::bundle::Bundle,
};
use files::Files;
use seccast_common::{ArgumentRule, NUMBERS, abi, phase, position, slot_flag};
use seccast_model::{
    Given, Profile,
    arch::Arch,
    observation::{Caller, EnteredAs, Phase, Sighting, Target},
    syscall,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    os::fd::AsRawFd as _,
    time::Duration,
};

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The cgroup side.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// This machine's ABI has no table.
    #[error(
        "recording is not supported on {arch}: record on x86_64 or aarch64; of riscv64 there is a table only, for `generate`"
    )]
    Arch {
        /// `std::env::consts::ARCH`.
        arch: &'static str,
    },
    /// A process has its cgroup for itself no more.
    #[error("cgroup {path} of process {pid} {why}; --whole-cgroup records it all the same")]
    NotAlone {
        /// The process.
        pid: u32,
        /// Its cgroup.
        path: String,
        /// `is the root` or what else lives there.
        why: String,
    },
    /// Who records sees not every process of the target, or knows it by another id than the kernel.
    #[error(
        "the processes of cgroup {path} cannot be told from here: seccast runs in a pid namespace that does not have them all; \
         run it in the machine's own (docker: --pid=host, Kubernetes: hostPID: true), or start the recording before the target"
    )]
    PidNamespace {
        /// The cgroup.
        path: String,
    },
    /// A container's cgroup is the root: its processes cannot be told from others.
    #[error(
        "container {name} is in the root cgroup: its calls cannot be told from the host's (crun with --cgroups=disabled, or a pure cgroup v1 host)"
    )]
    RootCgroup {
        /// The container.
        name: String,
    },
}

/// A recording: its slots and what was learnt of its target.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Slots whose blocks it joins.
    pub slots: BTreeSet<SlotId>,
    /// What is recorded.
    pub target: Target,
    /// The target's cgroup.
    pub cgroup: Cgroup,
    /// The target's bundle, where it is known.
    pub bundle: Option<Bundle>,
    /// The client of the engine that runs it, where it is known.
    pub client: Option<Client>,
    /// See [`seccast_model::Observation::started_late_ns`].
    pub started_late_ns: Option<u64>,
    /// See [`seccast_model::Observation::blocked_at_attach`].
    pub blocked: BTreeMap<Arch, BTreeMap<String, Sighting>>,
    /// Tasks whose blocked call could not be read.
    pub blocked_unread: u64,
    /// A present task was under a filter at attach.
    pub filtered_at_attach: bool,
    /// Processes that ran when the watching began.
    pub present: u64,
    /// Of these, those under another number of filters than one more than what they were started by.
    pub present_unlike: u64,
    /// It was started in audit mode: its filter denies nothing.
    pub audited: bool,
    /// See [`seccast_model::Observation::entered_as`].
    pub entered_as: Option<EnteredAs>,
    /// The target's C library.
    pub libc: Option<String>,
    /// Processes that forked faster than they were listed.
    without_phase: u64,
    id: String,
    started_ns: u64,
    started_ktime: u64,
}

impl Recording {
    /// Does its filter, if it has one, let every call happen, as far as is known?
    #[must_use]
    pub fn denies_nothing(&self) -> bool {
        // What the runtime got outdoes what its client was told.
        let bundle = self.bundle.as_ref();
        bundle.map_or(self.audited, Bundle::allows_everything)
    }

    /// Was it handed this profile? `started`: see [`Recorder::started_filtered`].
    #[must_use]
    pub fn given(&self, wanted: &Profile, started: Option<bool>) -> Given {
        let filter = match &self.bundle {
            Some(bundle) => bundle
                .filter()
                .map_err(|error| format!("the filter in its bundle is not understood: {error}")),
            None => Err("nothing here has the configuration that its runtime got".to_owned()),
        };
        // Processes that were found stand for the start that nobody saw.
        let found = self.started_late_ns.map(|_| self.filtered_at_attach);
        let filter = filter.as_ref().map(Option::as_ref);
        Given::of(wanted, filter.map_err(Clone::clone), found.or(started))
    }

    /// Takes what the engine tells of the container; what is known already stays.
    pub fn describe(&mut self, details: &Details) {
        let target = &mut self.target;
        let fill = |known: &mut Option<String>, told: &Option<String>| {
            if known.is_none() {
                known.clone_from(told);
            }
        };
        fill(&mut target.container_name, &details.name);
        fill(&mut target.image, &details.image);
        fill(&mut target.image_digest, &details.image_digest);
        fill(&mut target.runtime, &details.runtime);
        if let Some(pod) = &mut target.pod
            && pod.labels.is_empty()
        {
            pod.labels.clone_from(&details.pod_labels);
        }
    }

    /// Is there an engine that could tell more of it? Of a runtime alone there is none.
    #[must_use]
    pub fn is_of_engine(&self) -> bool {
        let id = self.target.container_id.as_deref();
        self.target.engine.is_some() || id.is_some_and(is_id)
    }
}

/// A new cgroup that somebody made while new ones are recorded.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its id.
    pub id: u64,
    /// Path below the cgroup2 mount; the own name alone, without a slash, if announcements were lost and it is gone.
    pub path: String,
    /// Who made it.
    pub creator: u32,
    /// Its command line, as the kernel saw it then; empty where it was too long.
    pub command_line: Vec<String>,
}

/// Something new for whoever shows progress.
#[derive(Clone, Debug)]
pub enum News {
    /// A number's first call.
    Call {
        /// Where.
        slot: SlotId,
        /// Its name, or its number.
        name: String,
        /// The part of the container's life; a hook's is [`Phase::App`] here.
        phase: Phase,
        /// Thread group id of the caller.
        pid: u32,
        /// Name of the caller.
        comm: String,
    },
    /// A program was executed in a slot.
    Executed {
        /// Where.
        slot: SlotId,
        /// The phase after it; a hook's is [`Phase::App`] here.
        phase: Phase,
        /// The file.
        file: String,
        /// Thread group id.
        pid: u32,
    },
    /// A cgroup was made.
    Made(Made),
}

#[derive(Clone, Debug)]
struct First {
    time: u64,
    image: u64,
    pid: u32,
    comm: String,
}

/// The loaded object with what its events told.
pub struct Recorder {
    kernel: Kernel,
    hierarchy: Hierarchy,
    arch: Arch,
    tree: Tree,
    /// What was taken in and not told of yet.
    unread: Vec<News>,
    firsts: HashMap<(u32, u32, u32, u32), First>,
    files: Files,
    /// What the runtime executed first into a block: the time and the file.
    starts: HashMap<(u32, u32), (u64, String)>,
    /// Denied calls were looked for before anything was watched.
    every_denial: bool,
}

impl Recorder {
    /// Loads and attaches; nothing is watched yet.
    ///
    /// # Errors
    /// When BPF is refused or no cgroup2 hierarchy is mounted.
    pub fn start(slots: u32) -> Result<Self, RecorderError> {
        let arch = native().ok_or(RecorderError::Arch {
            arch: std::env::consts::ARCH,
        })?;
        let hierarchy = Hierarchy::find()?;
        let mut kernel = Kernel::open(slots)?;
        kernel.record_arguments(&argument_rules(arch))?;
        kernel.attach()?;
        Ok(Self {
            kernel,
            hierarchy,
            arch,
            tree: Tree::default(),
            unread: Vec::new(),
            firsts: HashMap::new(),
            files: Files::default(),
            starts: HashMap::new(),
            every_denial: false,
        })
    }

    /// The cgroup2 hierarchy.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The kernel side.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The kernel side.
    pub fn kernel_mut(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// The cgroups, with those that are gone again, while new ones are recorded.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// From now on every new cgroup gets a slot of its own at its first call, and is announced; or no more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn record_new(&mut self, on: bool) -> Result<(), RecorderError> {
        self.kernel.record_new(on)?;
        // What is made from here on is announced, and what there is can be found.
        self.tree = if on {
            Tree::of(&self.hierarchy)
        } else {
            Tree::default()
        };
        Ok(())
    }

    /// Stops recording into a slot and forgets what it held.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&mut self, slot: SlotId) -> Result<(), RecorderError> {
        self.kernel.release(slot)?;
        self.firsts.retain(|(of, ..), _| *of != slot.0);
        self.starts.retain(|(of, _), _| *of != slot.0);
        Ok(())
    }

    /// A recording of slots that are being filled already.
    #[must_use]
    pub fn recording(&self, slots: BTreeSet<SlotId>, cgroup: Cgroup, target: Target) -> Recording {
        Recording {
            slots,
            target: Target {
                cgroup_path: Some(cgroup.path.clone()),
                ..target
            },
            cgroup,
            bundle: None,
            client: None,
            started_late_ns: None,
            blocked: BTreeMap::new(),
            blocked_unread: 0,
            filtered_at_attach: false,
            present: 0,
            present_unlike: 0,
            audited: false,
            entered_as: None,
            libc: None,
            without_phase: 0,
            id: random_id(),
            started_ns: clock::unix_ns(),
            started_ktime: clock::monotonic_ns(),
        }
    }

    /// Watches a cgroup that a command is about to enter: its calls count from its execve on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch_command(
        &mut self,
        cgroup: &Cgroup,
        command: Vec<String>,
    ) -> Result<Recording, RecorderError> {
        let slot = self.kernel.reserve(slot_flag::NO_EXEC)?;
        self.watch(slot, cgroup, false)?;
        Ok(self.recording(
            [slot].into(),
            cgroup.clone(),
            Target {
                command,
                ..Target::default()
            },
        ))
    }

    /// Watches a cgroup with whatever runs in it, which counts as application. `all_app`: what enters later does as well.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch_present(
        &mut self,
        cgroup: &Cgroup,
        all_app: bool,
        target: Target,
    ) -> Result<Recording, RecorderError> {
        let slot = self
            .kernel
            .reserve(if all_app { slot_flag::ALL_APP } else { 0 })?;
        let mut recording = self.recording([slot].into(), cgroup.clone(), target);
        let numbering = self.numbering(cgroup)?;
        // Each has its phase before its first recorded call; what it forks from then on inherits it. A process forked
        // between the listing and its parent's entry is found by listing again, unless it has forked and ended as well.
        let mut processes = BTreeSet::new();
        for _ in 0..LISTINGS {
            recording.without_phase = 0;
            for (pid, own) in self.listed(cgroup, numbering)? {
                if processes.insert(pid)
                    && self
                        .kernel
                        .process(pid)
                        .is_none_or(|known| (known.slot, known.phase) != (slot.0, phase::START))
                {
                    let filters = own.and_then(proc::filters).unwrap_or_default();
                    self.kernel.set_process(pid, slot, phase::START, filters)?;
                    recording.without_phase += 1;
                }
            }
            if recording.without_phase == 0 {
                break;
            }
        }
        if all_app {
            recording.without_phase = 0;
        }
        self.watch(slot, cgroup, !processes.is_empty() || all_app)?;
        if !processes.is_empty() {
            // By their ids here, as /proc has them.
            let processes = cgroup.processes();
            self.adopt_present(&mut recording, &processes)?;
        }
        Ok(recording)
    }

    /// By whose ids the processes of a cgroup can be told to the kernel side.
    fn numbering(&mut self, cgroup: &Cgroup) -> Result<Numbering, RecorderError> {
        if proc::in_first_pid_namespace() {
            return Ok(Numbering::Own);
        }
        // Its iterator gives the first namespace's ids, of the processes that this namespace sees.
        let listed = cgroup.processes();
        let seen = self.seen_by_iterator(cgroup).unwrap_or_default();
        if listed.contains(&0) || seen.len() != listed.len() {
            return Err(RecorderError::PidNamespace {
                path: cgroup.path.clone(),
            });
        }
        Ok(Numbering::Iterator)
    }

    fn seen_by_iterator(&mut self, cgroup: &Cgroup) -> Result<BTreeSet<u32>, RecorderError> {
        let ids = cgroup.ids();
        let tasks = self.kernel.blocked()?.into_iter();
        let own = tasks.filter(|task| ids.contains(&task.cgroup));
        Ok(own.map(|task| task.pid).collect())
    }

    /// The processes of a cgroup by the kernel's ids, each with its id here where that is the same.
    fn listed(
        &mut self,
        cgroup: &Cgroup,
        numbering: Numbering,
    ) -> Result<Vec<(u32, Option<u32>)>, RecorderError> {
        Ok(match numbering {
            Numbering::Own => cgroup
                .processes()
                .into_iter()
                .map(|pid| (pid, Some(pid)))
                .collect(),
            Numbering::Iterator => self
                .seen_by_iterator(cgroup)?
                .into_iter()
                .map(|pid| (pid, None))
                .collect(),
        })
    }

    /// Watches a container whose runtime has made it and waits to start it: its processes are the runtime's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch_created(
        &mut self,
        cgroup: &Cgroup,
        target: Target,
    ) -> Result<Recording, RecorderError> {
        let slot = self.kernel.reserve(0)?;
        self.kernel.watch_denials(true)?;
        self.watch(slot, cgroup, false)?;
        Ok(self.recording([slot].into(), cgroup.clone(), target))
    }

    fn watch(&mut self, slot: SlotId, cgroup: &Cgroup, started: bool) -> Result<(), KernelError> {
        let level = self.hierarchy.level(cgroup);
        self.kernel.watch(slot, cgroup.id, level, started)
    }

    /// What is there already: what each is blocked in is its call, and a filter may deny calls.
    fn adopt_present(
        &mut self,
        recording: &mut Recording,
        processes: &BTreeSet<u32>,
    ) -> Result<(), RecorderError> {
        let filtered: Vec<_> = processes
            .iter()
            .filter(|pid| proc::seccomp(**pid).is_some_and(|mode| mode != 0))
            .collect();
        recording.filtered_at_attach = !filtered.is_empty();
        if recording.filtered_at_attach {
            self.kernel.watch_denials(true)?;
        }
        recording.present = processes.len() as u64;
        recording.present_unlike = present_unlike(processes);
        recording.started_late_ns = processes
            .iter()
            .filter_map(|pid| proc::age_ns(*pid))
            .max()
            .or(Some(0));
        recording.libc = processes.iter().find_map(|pid| proc::libc(*pid));
        self.read_blocked(recording, processes)
    }

    fn read_blocked(
        &mut self,
        recording: &mut Recording,
        processes: &BTreeSet<u32>,
    ) -> Result<(), RecorderError> {
        let mut calls: Vec<(Arch, i64, u32, String)> = Vec::new();
        if let Ok(tasks) = self.kernel.blocked() {
            let ids = recording.cgroup.ids();
            let own = || tasks.iter().filter(|task| ids.contains(&task.cgroup));
            self.kernel.set_inside(own())?;
            for task in own() {
                if task.nr >= 0 {
                    let (row, nr) = split(task.abi, task.nr);
                    calls.extend(
                        self.abi(row)
                            .map(|arch| (arch, nr, task.pid, text(&task.comm))),
                    );
                }
            }
        } else {
            for pid in processes {
                let row = if proc::is_32_bit(*pid).unwrap_or(false) {
                    abi::COMPAT
                } else {
                    abi::NATIVE
                };
                for tid in proc::threads(*pid) {
                    match proc::current_call(*pid, tid) {
                        Some(Some(nr)) => {
                            let (row, nr) = split(row, nr);
                            calls.extend(self.abi(row).map(|arch| {
                                (arch, nr, *pid, proc::comm(*pid).unwrap_or_default())
                            }));
                        }
                        Some(None) => {}
                        None => recording.blocked_unread += 1,
                    }
                }
            }
        }
        for (arch, nr, pid, comm) in calls {
            let Some(name) = named(arch, nr) else {
                continue;
            };
            let exe = fs::read_link(format!("/proc/{pid}/exe"))
                .ok()
                .map(|path| path.display().to_string());
            let caller = Caller {
                pid,
                comm,
                exe,
                ..Caller::default()
            };
            let sighting = Sighting {
                first_ns: Some(0),
                caller: Some(caller),
                ..Sighting::default()
            };
            recording
                .blocked
                .entry(arch)
                .or_default()
                .entry(name.to_owned())
                .or_insert(sighting);
        }
        Ok(())
    }

    /// Waits up to `timeout` for events and takes them in.
    ///
    /// # Errors
    /// When polling fails.
    pub fn poll(&mut self, timeout: Duration) -> Result<Vec<News>, RecorderError> {
        let mut news = std::mem::take(&mut self.unread);
        let timeout = if news.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        let mut fd = libc::pollfd {
            fd: self.kernel.events_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&raw mut fd, 1, milliseconds) } < 0 {
            let source = io::Error::last_os_error();
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(KernelError::Io {
                    action: "poll of the ring buffer",
                    source,
                }
                .into());
            }
        }
        // Before the events: whoever is not among them then has sent all of his.
        let images = self.files.are_many().then(|| self.kernel.images());
        while let Some(event) = self.kernel.next_event() {
            news.push(self.take(event));
        }
        if let Some(mut images) = images {
            images.extend(self.firsts.values().map(|first| first.image));
            self.files.keep(&images);
        }
        Ok(news)
    }

    /// Takes in what has been announced by now; the next poll tells of it.
    pub(crate) fn catch_up(&mut self) {
        while let Some(event) = self.kernel.next_event() {
            let news = self.take(event);
            self.unread.push(news);
        }
    }

    fn take(&mut self, event: Event) -> News {
        match event {
            Event::Sighting(seen) => {
                let first = First {
                    time: seen.time,
                    image: seen.image,
                    pid: seen.pid,
                    comm: text(&seen.comm),
                };
                let comm = first.comm.clone();
                let known = self
                    .firsts
                    .entry((seen.slot, seen.phase, seen.abi, seen.nr))
                    .or_insert_with(|| first.clone());
                if first.time < known.time {
                    *known = first;
                }
                let name = self
                    .abi(seen.abi)
                    .and_then(|arch| syscall::name(arch, seen.nr));
                let name = name.map_or_else(|| format!("number {}", seen.nr), str::to_owned);
                News::Call {
                    slot: SlotId(seen.slot),
                    name,
                    phase: phase_of(seen.phase),
                    pid: seen.pid,
                    comm,
                }
            }
            Event::Exec(exec) => {
                let file = text(&exec.text);
                self.files.add(exec.time, &file);
                let first = self
                    .starts
                    .entry((exec.slot, exec.phase))
                    .or_insert_with(|| (exec.time, file.clone()));
                if exec.time < first.0 {
                    *first = (exec.time, file.clone());
                }
                News::Executed {
                    slot: SlotId(exec.slot),
                    phase: phase_of(exec.phase),
                    file,
                    pid: exec.pid,
                }
            }
            Event::Mkdir(made) => {
                let kept = usize::try_from(made.length).unwrap_or(usize::MAX);
                let cut = kept > made.arguments.len();
                let line = &made.arguments[..kept.min(made.arguments.len())];
                News::Made(Made {
                    id: made.cgroup,
                    path: self.take_made(made.cgroup, made.parent, &text(&made.name)),
                    creator: made.pid,
                    command_line: if cut {
                        Vec::new()
                    } else {
                        proc::split_arguments(line)
                    },
                })
            }
        }
    }

    /// Takes in a new cgroup, and tells its path.
    fn take_made(&mut self, id: u64, parent: u64, name: &str) -> String {
        for gone in self.tree.add(&self.hierarchy, id, parent, name) {
            self.kernel.forget(gone);
        }
        self.path_of(id).unwrap_or_else(|| name.to_owned())
    }

    /// The path of a cgroup below the mount, while new ones are recorded. If an announcement was lost, it is found by its inode
    /// while it is there.
    pub(crate) fn path_of(&mut self, id: u64) -> Option<String> {
        self.tree.path(id).or_else(|| {
            self.tree.find(&self.hierarchy);
            self.tree.path(id)
        })
    }

    /// The ABI of a row, if this machine has it.
    fn abi(&self, row: u32) -> Option<Arch> {
        arch_of(self.arch, row)
    }
}

/// What a block's calls are, as far as its number tells.
fn phase_of(block: u32) -> Phase {
    match block {
        phase::RUNTIME | phase::ENTER => Phase::Runtime,
        phase::EXEC => Phase::Exec,
        phase::UNDECIDED => Phase::Entered,
        _ => Phase::App,
    }
}

/// By whose ids processes are told to the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    /// Those of this process's pid namespace, which is the first.
    Own,
    /// Those that the `tasks` iterator gives.
    Iterator,
}

/// Of processes that run, how many are not under the filter that their container was given: exactly one more than what started
/// the topmost of their line, or more, if they have loaded one themselves.
fn present_unlike(processes: &BTreeSet<u32>) -> u64 {
    let unlike = |pid: &&u32| {
        let mut top = **pid;
        let outside = loop {
            match proc::parent(top) {
                Some(parent) if processes.contains(&parent) => top = parent,
                parent => break parent,
            }
        };
        let Some(own) = proc::filters(**pid) else {
            // It is gone.
            return false;
        };
        // Process 0 is the parent of the first process.
        let inherited = outside
            .filter(|pid| *pid != 0)
            .map_or(Some(0), proc::filters);
        inherited.is_none_or(|inherited| {
            if top == **pid {
                own != inherited + 1
            } else {
                own <= inherited
            }
        })
    };
    processes.iter().filter(unlike).count() as u64
}

/// How often the processes of a cgroup are listed at most: the second listing finds nobody new but where processes fork
/// without a pause.
const LISTINGS: usize = 64;

/// The ABI of a row of a machine, if it has it.
fn arch_of(machine: Arch, row: u32) -> Option<Arch> {
    match (machine, row) {
        (Arch::X86_64, abi::NATIVE) => Some(Arch::X86_64),
        (Arch::X86_64, abi::COMPAT) => Some(Arch::X86),
        (Arch::X86_64, abi::X32) => Some(Arch::X32),
        (Arch::Aarch64, abi::NATIVE) => Some(Arch::Aarch64),
        (Arch::Aarch64, abi::COMPAT) => Some(Arch::Arm),
        _ => None,
    }
}

/// The name of a number as the kernel has it.
fn named(arch: Arch, nr: i64) -> Option<&'static str> {
    syscall::name(arch, u32::try_from(nr).ok()?)
}

/// The rules of [`arguments`] with the places of their calls in a block, over a machine's ABIs.
fn argument_rules(native: Arch) -> Vec<(ArgumentRule, Vec<usize>)> {
    let places = |name| {
        [abi::NATIVE, abi::COMPAT, abi::X32]
            .into_iter()
            .filter_map(|row| Some(position(row, syscall::nr(arch_of(native, row)?, name)?)))
            .collect()
    };
    arguments::rules()
        .map(|(name, rule)| (rule, places(name)))
        .collect()
}

/// The ABI row and number of a raw number: bit 30 is x32.
fn split(row: u32, nr: i64) -> (u32, i64) {
    const X32_BIT: i64 = 0x4000_0000;
    if cfg!(target_arch = "x86_64")
        && row == abi::NATIVE
        && nr & X32_BIT != 0
        && nr & !(X32_BIT | (NUMBERS as i64 - 1)) == 0
    {
        (abi::X32, nr & !X32_BIT)
    } else {
        (row, nr)
    }
}

/// A zero-terminated text.
fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// This machine's ABI.
#[must_use]
pub fn native() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        _ => None,
    }
}

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// 128 bits from the kernel, in hexadecimal.
pub(crate) fn random_id() -> String {
    let mut bytes = [0u8; 16];
    // SAFETY: a valid buffer of that length; 16 bytes are never cut short (getrandom(2)).
    let _ = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{observe::is_explanation, *};
    use seccast_common::Stat;

    #[test]
    fn rows_are_the_abis_of_the_machine() {
        let cases = [
            (
                Arch::X86_64,
                [Some(Arch::X86_64), Some(Arch::X86), Some(Arch::X32)],
            ),
            (Arch::Aarch64, [Some(Arch::Aarch64), Some(Arch::Arm), None]),
            // Nothing is recorded there.
            (Arch::Riscv64, [None; 3]),
        ];
        for (machine, expect) in cases {
            let rows = [abi::NATIVE, abi::COMPAT, abi::X32].map(|row| arch_of(machine, row));
            assert_eq!(rows, expect, "{machine}");
        }
    }

    #[test]
    fn private_calls_of_arm_have_names_and_losing_one_is_a_loss() {
        let cases = [
            (Arch::Arm, 0xf_0005, Some("set_tls")),
            (Arch::Arm, 5, Some("open")),
            (Arch::Arm, 0xf_0007, None),
            (Arch::Arm, -1, None),
            (Arch::X86, 0xf_0005, None),
        ];
        for (arch, nr, expect) in cases {
            assert_eq!(named(arch, nr), expect, "{arch} {nr}");
        }
        assert!(!is_explanation(Arch::Aarch64, Stat::UnknownFull));
        assert!(is_explanation(Arch::X86_64, Stat::UnknownFull));
    }

    #[test]
    fn arguments_are_recorded_of_every_abi_of_the_machine() {
        let places = |machine, name| {
            let index = arguments::rules()
                .position(|(call, _)| call == name)
                .unwrap();
            argument_rules(machine)[index].1.clone()
        };
        let at = |row, nr| position(row, nr);
        assert_eq!(
            places(Arch::X86_64, "socket"),
            [at(abi::NATIVE, 41), at(abi::COMPAT, 359), at(abi::X32, 41)]
        );
        assert_eq!(
            places(Arch::Aarch64, "socket"),
            [at(abi::NATIVE, 198), at(abi::COMPAT, 281)]
        );
        assert_eq!(places(Arch::Aarch64, "fcntl64"), [at(abi::COMPAT, 221)]);
    }
}
