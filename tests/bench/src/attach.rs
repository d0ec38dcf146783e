//! The configurations: what is attached while the measured process makes its calls.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, HashMap},
    programs::{BtfTracePoint, RawTracePoint},
};
use seccast_common::{PHASES, abi, position, slot_flag};
use seccast_model::observation::Target;
use seccast_recorder::{Recorder, Recording, cgroup::Cgroup, kernel};

use crate::{child::Conversation, loaded};

/// What is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Nothing,
    /// The program of our object that does nothing.
    Empty,
    /// seccast as it ships.
    Seccast {
        /// Whether it records the measured process.
        recorded: bool,
    },
    /// The same recorded, while it looks for denied calls; the measured one is not denied.
    Watched,
    /// The measured call is denied by a filter.
    Denied {
        /// Whether seccast counts that.
        counted: bool,
    },
    /// `sys_enter` of another build of the object, without the other programs.
    Beside {
        /// Which.
        object: usize,
        /// Whether it records the measured process.
        recorded: bool,
    },
    /// bpftrace counts calls by number.
    Bpftrace,
    /// strace counts calls by number.
    Strace,
}

impl Setting {
    /// How many programs it has at the hooks of system calls; `None` where others decide.
    pub(crate) fn programs(self) -> Option<usize> {
        match self {
            Self::Nothing | Self::Strace | Self::Denied { counted: false } => Some(0),
            Self::Watched | Self::Denied { counted: true } => Some(3),
            Self::Bpftrace => None,
            _ => Some(1),
        }
    }

    /// Whether the measured call is denied.
    pub(crate) fn is_denied(self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// What its cost is added to.
    pub(crate) fn base(self) -> Self {
        if self.is_denied() {
            Self::Denied { counted: false }
        } else {
            Self::Nothing
        }
    }
}

/// What does not change from round to round.
pub(crate) struct Means {
    objects: Vec<Vec<u8>>,
    globals: Vec<(&'static str, u32)>,
    btf: Option<Btf>,
}

impl Means {
    pub(crate) fn new(beside: &[impl AsRef<Path>]) -> Result<Self> {
        if kernel::object().is_empty() {
            bail!("this program was built without the eBPF object (SECCAST_SKIP_EBPF=1)");
        }
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self {
            objects: beside
                .iter()
                .map(|path| read(path.as_ref()))
                .collect::<Result<_>>()?,
            globals: kernel::globals().context("cannot read what the object asks of the kernel")?,
            btf: (!beside.is_empty())
                .then(Btf::from_sys_fs)
                .transpose()
                .context("cannot read the kernel's BTF")?,
        })
    }

    /// Attaches. `cgroup` is the measured process's.
    pub(crate) fn attach(&self, setting: Setting, cgroup: &Cgroup) -> Result<Attached> {
        Ok(match setting {
            Setting::Nothing | Setting::Strace | Setting::Denied { counted: false } => {
                Attached::Nothing
            }
            Setting::Empty => Attached::Program {
                _ebpf: self.empty().context("cannot attach the empty program")?,
            },
            Setting::Seccast { recorded } => {
                let mut recorder = Recorder::start(2).context("cannot start to record")?;
                let recording = recorded
                    .then(|| recorder.watch_present(cgroup, false, Target::default()))
                    .transpose()
                    .context("cannot record the measured process")?;
                Attached::Seccast {
                    recorder: Box::new(recorder),
                    recording: recording.map(Box::new),
                }
            }
            Setting::Watched | Setting::Denied { counted: true } => {
                let mut recorder = Recorder::start(2).context("cannot start to record")?;
                recorder
                    .watch_denials()
                    .context("cannot look for denied calls")?;
                let recording = recorder.watch_present(cgroup, false, Target::default());
                let recording = recording.context("cannot record the measured process")?;
                Attached::Seccast {
                    recorder: Box::new(recorder),
                    recording: Some(Box::new(recording)),
                }
            }
            Setting::Beside { object, recorded } => Attached::Program {
                _ebpf: self
                    .beside(object, recorded.then_some(cgroup))
                    .context("cannot attach the other object")?,
            },
            Setting::Bpftrace => Attached::Bpftrace(bpftrace()?),
        })
    }

    fn load(&self, object: &[u8]) -> Result<Ebpf> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for (name, value) in &self.globals {
            loader.override_global(name, value, false);
        }
        for (map, entries) in [("SLOT", 2), ("FREE", 2), ("BLOCKS", 2 * PHASES)] {
            loader.map_max_entries(map, entries);
        }
        loader.load(object).context("the object does not load")
    }

    fn empty(&self) -> Result<Ebpf> {
        let mut ebpf = self.load(kernel::object())?;
        let program = ebpf.program_mut("empty").context("there is no such one")?;
        let program: &mut RawTracePoint = program.try_into()?;
        program.load()?;
        program.attach("sys_enter")?;
        Ok(ebpf)
    }

    fn beside(&self, object: usize, cgroup: Option<&Cgroup>) -> Result<Ebpf> {
        let object = self.objects.get(object).context("there is no such one")?;
        let btf = self.btf.as_ref().context("the kernel has no BTF")?;
        let mut ebpf = self.load(object)?;
        if let Some(cgroup) = cgroup {
            let keys = ebpf.map_mut("KEYS").context("it has no map KEYS")?;
            // The first slot, where something has started (`seccast_common::Cgroup`).
            HashMap::<_, u64, [u32; 2]>::try_from(keys)?.insert(cgroup.id, [0, 1], 0)?;
            let slots = ebpf.map_mut("SLOT").context("it has no map SLOT")?;
            Array::<_, [u32; 2]>::try_from(slots)?.set(0, [slot_flag::ALL_APP, 0], 0)?;
        }
        let program = ebpf.program_mut("sys_enter").context("it has no program")?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load("sys_enter", btf)?;
        program.attach()?;
        Ok(ebpf)
    }
}

/// Attached until it is dropped.
pub(crate) enum Attached {
    Nothing,
    Program {
        _ebpf: Ebpf,
    },
    Seccast {
        recorder: Box<Recorder>,
        recording: Option<Box<Recording>>,
    },
    Bpftrace(Conversation),
}

impl Attached {
    /// Detaches, after a look at whether what was to be seen was seen.
    pub(crate) fn detach(self, denied: bool, calls: u64) -> Result<()> {
        let nr = libc::SYS_getppid;
        match self {
            Self::Seccast {
                recorder,
                recording: Some(recording),
            } if denied => {
                let denials = recorder.denials(&recording)?;
                let counts = denials.iter().filter(|denial| denial.nr == nr);
                let count: u64 = counts.map(|denial| denial.count).sum();
                // Samples that were disturbed were taken again.
                if count < calls {
                    bail!("seccast counted {count} of {calls} denied calls");
                }
                Ok(())
            }
            Self::Seccast {
                recorder,
                recording: Some(recording),
            } => {
                let at = position(abi::NATIVE, u32::try_from(nr)?);
                for slot in &recording.slots {
                    for phase in 0..PHASES {
                        if recorder.kernel().block(*slot, phase)?.get(at) == Some(&1) {
                            return Ok(());
                        }
                    }
                }
                bail!("seccast did not record the call that was measured");
            }
            Self::Bpftrace(conversation) => {
                let lines = conversation.interrupt();
                let key = format!("@[{nr}]:");
                let count = lines
                    .iter()
                    .find_map(|line| line.strip_prefix(&key)?.trim().parse::<u64>().ok());
                if count.is_none_or(|count| count < calls) {
                    bail!("bpftrace counted {count:?} of {calls} calls");
                }
                Ok(())
            }
            Self::Nothing | Self::Program { .. } | Self::Seccast { .. } => Ok(()),
        }
    }
}

fn bpftrace() -> Result<Conversation> {
    // Its probe is a classic tracepoint: it wants tracefs, which is mounted for it alone.
    let line = "mount -t tracefs tracefs /sys/kernel/tracing && exec bpftrace -B line -e \
                'tracepoint:raw_syscalls:sys_enter { @[args->id] = count(); }'";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", line]);
    let conversation = Conversation::start("bpftrace", command, true)?;
    let limit = Duration::from_secs(20);
    while !conversation.answer(limit)?.starts_with("Attaching") {}
    loaded::wait_for_some(limit)?;
    // Loaded is not attached yet; whether it was is seen in its counts.
    std::thread::sleep(Duration::from_millis(500));
    Ok(conversation)
}
