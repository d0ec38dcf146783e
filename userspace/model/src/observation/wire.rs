//! Observations as files. The module `v1` has the form on disk; the domain types know nothing of it.

use super::Observation;
use crate::evidence::Evidence;
use crate::json::{self, Kind, Refusal};
use serde_json::Value;

/// What [`Observation::to_json`] writes into `schema`.
pub const SCHEMA: &str = "seccast/observation.v1";

/// Why a file is not an observation that this version can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Larger than any observation.
    #[error("the file has at least {bytes} bytes, and no observation more than {max}", max = json::MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More values than any observation.
    #[error("the file has more than {max} values, which no observation has", max = json::MAX_VALUES)]
    TooManyValues,
    /// Nothing in it.
    #[error("the file is empty: it was not written completely; record again or copy it again")]
    Empty,
    /// Cut off.
    #[error(
        "the file ends in the middle: it was not written completely; record again or copy it again"
    )]
    Truncated(#[source] serde_json::Error),
    /// Not JSON.
    #[error("the file is not valid JSON; mend it or make it again")]
    Syntax(#[source] serde_json::Error),
    /// JSON of another kind.
    #[error("this is {}, not an observation: {}", kind.noun(), advice(*kind))]
    Foreign {
        /// What it seems to be.
        kind: Kind,
    },
    /// An observation of a later version, whose meaning is unknown here.
    #[error(
        "field `schema`: `{found}` is of a newer seccast, this one reads `{reads}`: update seccast"
    )]
    Version {
        /// What it says.
        found: String,
        /// What this version reads.
        reads: &'static str,
    },
    /// An architecture that this version has no table for.
    #[error(
        "field `{field}`: `{found}` is no architecture that this version knows (x86_64, i386, x32, aarch64, arm, riscv64): the file may be of a newer seccast"
    )]
    Arch {
        /// Its path.
        field: String,
        /// What it says.
        found: String,
    },
    /// A phase that this version does not know.
    #[error(
        "field `{field}`: `{found}` is no phase that this version knows (runtime, hook, app, exec, entered): the file may be of a newer seccast"
    )]
    Phase {
        /// Its path.
        field: String,
        /// What it says.
        found: String,
    },
    /// A word that this version does not know.
    #[error("field `{field}`: `{found}` is not {wanted}: the file may be of a newer seccast")]
    Word {
        /// Its path.
        field: String,
        /// What it says.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Not the name of a system call: it would end up in a profile.
    #[error(
        "field `{field}`: `{found}` cannot be the name of a system call (a-z, 0-9 and _, at most 64)"
    )]
    Name {
        /// Its path.
        field: String,
        /// What it says.
        found: String,
    },
    /// Not a recording's id.
    #[error("field `{field}`: `{found}` is not 32 hexadecimal digits")]
    Id {
        /// Its path.
        field: String,
        /// What it says.
        found: String,
    },
    /// A field is missing or of another type.
    #[error("field `{field}`: {reason}; the file was edited, or cut off")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong, in the words of the JSON reader.
        reason: String,
    },
}

impl ReadError {
    /// The same of a value that lies at `outer`.
    pub(crate) fn within(mut self, outer: &str) -> Self {
        match &mut self {
            Self::Id { field, .. }
            | Self::Arch { field, .. }
            | Self::Phase { field, .. }
            | Self::Word { field, .. }
            | Self::Name { field, .. }
            | Self::Field { field, .. } => *field = join_path(outer, field),
            _ => {}
        }
        self
    }

    /// The path of the field that is wrong, where it is one field: [`crate::position`] finds it in the file.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Version { .. } => Some("schema"),
            Self::Id { field, .. }
            | Self::Arch { field, .. }
            | Self::Phase { field, .. }
            | Self::Word { field, .. }
            | Self::Name { field, .. }
            | Self::Field { field, .. } => Some(field),
            _ => None,
        }
    }
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { bytes } => Self::TooLarge { bytes },
            Refusal::TooManyValues => Self::TooManyValues,
            Refusal::Syntax(error) if error.is_eof() => Self::Truncated(error),
            Refusal::Syntax(error) => Self::Syntax(error),
        }
    }
}

fn join_path(outer: &str, field: &str) -> String {
    match field {
        "." | "" => outer.to_owned(),
        field if field.starts_with('[') => format!("{outer}{field}"),
        field => format!("{outer}.{field}"),
    }
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::OciProfile | Kind::DockerProfile => {
            "a profile is what `generate` makes of observations; give the file that `record --observation` wrote"
        }
        Kind::Report => {
            "give the file that `record --observation` wrote, not the report beside a profile"
        }
        _ => "give the file that `record --observation` wrote",
    }
}

impl Observation {
    /// Reads the bytes of a file.
    ///
    /// Fields that this version does not know are kept in the `extra` maps.
    ///
    /// # Errors
    /// When the bytes are not an observation of a known version; the error names the field and the next step.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ReadError::Empty);
        }
        if json::bounded(bytes).is_ok()
            && let Some(wire) = v1::fast(bytes)
        {
            return v1::read(wire);
        }
        // Something is wrong, a field that comes twice for one: now it pays to look at what it is, and to keep the path to each field.
        let value = json::value(bytes)?;
        match Kind::of(&value) {
            Kind::Observation => {}
            kind => return Err(ReadError::Foreign { kind }),
        }
        match value.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => v1::read(
                json::typed(value).map_err(|(field, reason)| ReadError::Field { field, reason })?,
            ),
            found => Err(ReadError::Version {
                found: json::shown(found.unwrap_or_default()),
                reads: SCHEMA,
            }),
        }
    }

    /// The bytes of a file: indented by two, keys in a fixed order, a newline at the end. The same observation gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::pretty(&v1::Observation::from(self))
    }
}

/// Evidence as it stands in files: in observations, reports and verdicts alike.
#[must_use]
pub fn evidence(evidence: &Evidence) -> Value {
    // The twin writes itself without an error.
    serde_json::to_value(v1::Evidence::from(evidence)).unwrap_or_default()
}

/// Version 1: the twins of the domain types.
pub(crate) mod v1 {
    use super::{ReadError, SCHEMA};
    use crate::arch::Arch;
    pub(crate) use crate::json::shown;
    use crate::observation as domain;
    use crate::observation::{Extra, Phase};
    use crate::{evidence, given};
    use serde::{Deserialize, Serialize};
    use std::collections::{BTreeMap, BTreeSet};

    /// Name.
    type Calls = BTreeMap<String, domain::Sighting>;

    /// Architecture, phase, name.
    type ByPhase = BTreeMap<String, BTreeMap<String, BTreeMap<String, Sighting>>>;

    /// Twin of [`domain::Observation`].
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Observation {
        schema: String,
        recording_id: String,
        tool_version: String,
        backend: String,
        target: Target,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        life: Option<Life>,
        machine: Machine,
        started_ns: u64,
        ended_ns: u64,
        calls: ByPhase,
        denied: ByPhase,
        blocked_at_attach: BTreeMap<String, BTreeMap<String, Sighting>>,
        unknown: Vec<UnknownNr>,
        losses: BTreeMap<String, u64>,
        explanations_lost: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started_late_ns: Option<u64>,
        filtered: bool,
        own_filter: bool,
        entered: Vec<EnteredProcess>,
        entered_count: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entered_as: Option<String>,
        start_container_hooks: bool,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        unprivileged_exec: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Evidence>,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`evidence::Evidence`].
    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Evidence {
        end: String,
        starts: Vec<Start>,
        calls: u64,
        execs: u64,
        execs_unlike: u64,
        present: u64,
        present_unlike: u64,
        joined: u64,
        left: u64,
        running: Vec<EnteredProcess>,
        lives: u64,
        lives_missed: u64,
        unwatched: BTreeSet<String>,
        hidden: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        given: Option<Given>,
    }

    /// Twin of [`evidence::Start`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Start {
        filters: u64,
        inherited: u64,
    }

    /// Twin of [`given::Given`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Given {
        filter: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    impl From<&evidence::Evidence> for Evidence {
        fn from(evidence: &evidence::Evidence) -> Self {
            Self {
                end: evidence.end.name().to_owned(),
                starts: evidence
                    .starts
                    .iter()
                    .map(|start| Start {
                        filters: start.filters,
                        inherited: start.inherited,
                    })
                    .collect(),
                calls: evidence.calls,
                execs: evidence.execs,
                execs_unlike: evidence.execs_unlike,
                present: evidence.present,
                present_unlike: evidence.present_unlike,
                joined: evidence.joined,
                left: evidence.left,
                running: evidence
                    .running
                    .iter()
                    .map(|running| EnteredProcess {
                        pid: running.pid,
                        comm: running.comm.clone(),
                        extra: Extra::new(),
                    })
                    .collect(),
                lives: evidence.lives,
                lives_missed: evidence.lives_missed,
                unwatched: evidence.unwatched.clone(),
                hidden: evidence
                    .hidden
                    .iter()
                    .map(|hidden| hidden.name().to_owned())
                    .collect(),
                given: evidence.given.as_ref().map(|given| Given {
                    filter: given.name().to_owned(),
                    reason: given.reason(),
                }),
            }
        }
    }

    fn read_evidence(wire: Evidence) -> Result<evidence::Evidence, ReadError> {
        let word = |field: &str, found: &str, wanted| ReadError::Word {
            field: format!("evidence.{field}"),
            found: shown(found),
            wanted,
        };
        Ok(evidence::Evidence {
            end: evidence::End::from_name(&wire.end)
                .ok_or_else(|| word("end", &wire.end, "`target` or `user`"))?,
            starts: wire
                .starts
                .into_iter()
                .map(|start| evidence::Start {
                    filters: start.filters,
                    inherited: start.inherited,
                })
                .collect(),
            calls: wire.calls,
            execs: wire.execs,
            execs_unlike: wire.execs_unlike,
            present: wire.present,
            present_unlike: wire.present_unlike,
            joined: wire.joined,
            left: wire.left,
            running: wire
                .running
                .into_iter()
                .map(|running| evidence::Running {
                    pid: running.pid,
                    comm: running.comm,
                })
                .collect(),
            lives: wire.lives,
            lives_missed: wire.lives_missed,
            unwatched: wire.unwatched,
            hidden: wire
                .hidden
                .iter()
                .map(|found| {
                    evidence::Hidden::from_name(found)
                        .ok_or_else(|| word("hidden", found, "a class of calls (own_filter)"))
                })
                .collect::<Result<_, _>>()?,
            given: wire
                .given
                .map(|given| {
                    given::Given::from_name(&given.filter, given.reason).ok_or_else(|| {
                        let wanted = "`profile`, `other`, `none` or `unknown`";
                        word("given.filter", &given.filter, wanted)
                    })
                })
                .transpose()?,
        })
    }

    /// Twin of [`domain::Target`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Target {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runtime: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container_name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_digest: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<Pod>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cgroup_path: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        command: Vec<String>,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`domain::Pod`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Pod {
        namespace: String,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<String>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        #[serde(flatten)]
        extra: Extra,
    }

    impl From<&domain::Pod> for Pod {
        fn from(pod: &domain::Pod) -> Self {
            let domain::Pod {
                namespace,
                name,
                uid,
                labels,
                extra,
            } = pod.clone();
            Self {
                namespace,
                name,
                uid,
                labels,
                extra,
            }
        }
    }

    impl From<Pod> for domain::Pod {
        fn from(pod: Pod) -> Self {
            let Pod {
                namespace,
                name,
                uid,
                labels,
                extra,
            } = pod;
            Self {
                namespace,
                name,
                uid,
                labels,
                extra,
            }
        }
    }

    /// Twin of [`domain::Life`]; absent where nothing is known.
    #[derive(Debug, Serialize, Deserialize)]
    struct Life {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        programs: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        pids: BTreeSet<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_ns: Option<u64>,
        #[serde(flatten)]
        extra: Extra,
    }

    impl Life {
        fn of(life: &domain::Life) -> Option<Self> {
            let domain::Life {
                program,
                programs,
                pids,
                first_ns,
                extra,
            } = life.clone();
            (*life != domain::Life::default()).then_some(Self {
                program,
                programs,
                pids,
                first_ns,
                extra,
            })
        }
    }

    impl From<Life> for domain::Life {
        fn from(life: Life) -> Self {
            let Life {
                program,
                programs,
                pids,
                first_ns,
                extra,
            } = life;
            Self {
                program,
                programs,
                pids,
                first_ns,
                extra,
            }
        }
    }

    /// Twin of [`domain::Machine`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Machine {
        kernel: String,
        arch: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        libc: Option<String>,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`domain::Sighting`].
    #[derive(Debug, Serialize, Deserialize)]
    pub(crate) struct Sighting {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_ns: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<Caller>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Arguments>,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`domain::Arguments`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Arguments {
        indices: Vec<u32>,
        values: BTreeSet<Vec<u32>>,
        overflow: bool,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`domain::Caller`].
    #[derive(Debug, Serialize, Deserialize)]
    struct Caller {
        pid: u32,
        comm: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exe: Option<String>,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`domain::UnknownNr`]; its sighting is flat here, so that fields of newer versions have one place to be kept in.
    #[derive(Debug, Serialize, Deserialize)]
    struct UnknownNr {
        arch: String,
        phase: String,
        nr: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_ns: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<Caller>,
        #[serde(flatten)]
        extra: Extra,
    }

    /// Twin of [`domain::EnteredProcess`].
    #[derive(Debug, Serialize, Deserialize)]
    struct EnteredProcess {
        pid: u32,
        comm: String,
        #[serde(flatten)]
        extra: Extra,
    }

    impl From<&domain::Observation> for Observation {
        fn from(o: &domain::Observation) -> Self {
            Self {
                schema: SCHEMA.to_owned(),
                recording_id: o.recording_id.clone(),
                tool_version: o.tool_version.clone(),
                backend: match o.backend {
                    domain::Backend::Ebpf => "ebpf",
                    domain::Backend::Ptrace => "ptrace",
                }
                .to_owned(),
                target: Target {
                    engine: o.target.engine.clone(),
                    runtime: o.target.runtime.clone(),
                    container_id: o.target.container_id.clone(),
                    container_name: o.target.container_name.clone(),
                    image: o.target.image.clone(),
                    image_digest: o.target.image_digest.clone(),
                    pod: o.target.pod.as_ref().map(Pod::from),
                    cgroup_path: o.target.cgroup_path.clone(),
                    command: o.target.command.clone(),
                    extra: o.target.extra.clone(),
                },
                life: Life::of(&o.life),
                machine: Machine {
                    kernel: o.machine.kernel.clone(),
                    arch: o.machine.arch.name().to_owned(),
                    libc: o.machine.libc.clone(),
                    extra: o.machine.extra.clone(),
                },
                started_ns: o.started_ns,
                ended_ns: o.ended_ns,
                calls: write_phases(&o.calls),
                denied: write_phases(&o.denied),
                blocked_at_attach: o
                    .blocked_at_attach
                    .iter()
                    .map(|(arch, calls)| (arch.name().to_owned(), write_calls(calls)))
                    .collect(),
                unknown: o
                    .unknown
                    .iter()
                    .map(|unknown| UnknownNr {
                        arch: unknown.arch.name().to_owned(),
                        phase: unknown.phase.name().to_owned(),
                        nr: unknown.nr,
                        count: unknown.count,
                        first_ns: unknown.first.first_ns,
                        caller: unknown.first.caller.as_ref().map(Caller::from),
                        extra: unknown.first.extra.clone(),
                    })
                    .collect(),
                losses: o.losses.clone(),
                explanations_lost: o.explanations_lost,
                started_late_ns: o.started_late_ns,
                filtered: o.filtered,
                own_filter: o.own_filter,
                entered: o
                    .entered
                    .iter()
                    .map(|p| EnteredProcess {
                        pid: p.pid,
                        comm: p.comm.clone(),
                        extra: p.extra.clone(),
                    })
                    .collect(),
                entered_count: o.entered_count,
                entered_as: o.entered_as.map(|choice| {
                    match choice {
                        domain::EnteredAs::App => "app",
                        domain::EnteredAs::Runtime => "runtime",
                    }
                    .to_owned()
                }),
                start_container_hooks: o.start_container_hooks,
                unprivileged_exec: o.unprivileged_exec.clone(),
                evidence: o.evidence.as_ref().map(Evidence::from),
                extra: o.extra.clone(),
            }
        }
    }

    impl From<&domain::Caller> for Caller {
        fn from(caller: &domain::Caller) -> Self {
            Self {
                pid: caller.pid,
                comm: caller.comm.clone(),
                exe: caller.exe.clone(),
                extra: caller.extra.clone(),
            }
        }
    }

    fn write_phases(calls: &BTreeMap<(Arch, Phase), Calls>) -> ByPhase {
        let mut wire = ByPhase::new();
        for ((arch, phase), calls) in calls {
            wire.entry(arch.name().to_owned())
                .or_default()
                .insert(phase.name().to_owned(), write_calls(calls));
        }
        wire
    }

    fn write_calls(calls: &Calls) -> BTreeMap<String, Sighting> {
        calls
            .iter()
            .map(|(name, first)| (name.clone(), first.into()))
            .collect()
    }

    impl From<&domain::Sighting> for Sighting {
        fn from(sighting: &domain::Sighting) -> Self {
            Self {
                first_ns: sighting.first_ns,
                caller: sighting.caller.as_ref().map(Caller::from),
                arguments: sighting.arguments.as_ref().map(|arguments| Arguments {
                    indices: arguments.indices.clone(),
                    values: arguments.values.clone(),
                    overflow: arguments.overflow,
                    extra: arguments.extra.clone(),
                }),
                extra: sighting.extra.clone(),
            }
        }
    }

    /// A file in order, without the cost of good errors.
    pub(crate) fn fast(bytes: &[u8]) -> Option<Observation> {
        serde_json::from_slice(bytes)
            .ok()
            .filter(|wire: &Observation| wire.schema == SCHEMA)
    }

    /// What is of the right form still has words in it that may be unknown.
    pub(crate) fn read(wire: Observation) -> Result<domain::Observation, ReadError> {
        let id = wire.recording_id;
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ReadError::Id {
                field: "recording_id".into(),
                found: shown(&id),
            });
        }
        Ok(domain::Observation {
            recording_id: id,
            tool_version: wire.tool_version,
            backend: match &*wire.backend {
                "ebpf" => domain::Backend::Ebpf,
                "ptrace" => domain::Backend::Ptrace,
                found => {
                    return Err(ReadError::Word {
                        field: "backend".into(),
                        found: shown(found),
                        wanted: "a backend (ebpf, ptrace)",
                    });
                }
            },
            target: domain::Target {
                engine: wire.target.engine,
                runtime: wire.target.runtime,
                container_id: wire.target.container_id,
                container_name: wire.target.container_name,
                image: wire.target.image,
                image_digest: wire.target.image_digest,
                pod: wire.target.pod.map(domain::Pod::from),
                cgroup_path: wire.target.cgroup_path,
                command: wire.target.command,
                extra: wire.target.extra,
            },
            life: wire.life.map(domain::Life::from).unwrap_or_default(),
            machine: domain::Machine {
                kernel: wire.machine.kernel,
                arch: arch("machine.arch", &wire.machine.arch)?,
                libc: wire.machine.libc,
                extra: wire.machine.extra,
            },
            started_ns: wire.started_ns,
            ended_ns: wire.ended_ns,
            calls: read_phases("calls", wire.calls)?,
            denied: read_phases("denied", wire.denied)?,
            blocked_at_attach: wire
                .blocked_at_attach
                .into_iter()
                .map(|(name, calls)| {
                    Ok((
                        arch("blocked_at_attach", &name)?,
                        read_calls(&format!("blocked_at_attach.{name}"), calls)?,
                    ))
                })
                .collect::<Result<_, ReadError>>()?,
            unknown: wire
                .unknown
                .into_iter()
                .enumerate()
                .map(|(at, unknown)| {
                    let sighting = Sighting {
                        first_ns: unknown.first_ns,
                        caller: unknown.caller,
                        arguments: None,
                        extra: unknown.extra,
                    };
                    Ok(domain::UnknownNr {
                        arch: arch(&format!("unknown[{at}].arch"), &unknown.arch)?,
                        phase: phase(&format!("unknown[{at}].phase"), &unknown.phase)?,
                        nr: unknown.nr,
                        count: unknown.count,
                        first: sighting.into(),
                    })
                })
                .collect::<Result<_, ReadError>>()?,
            losses: wire.losses,
            explanations_lost: wire.explanations_lost,
            started_late_ns: wire.started_late_ns,
            filtered: wire.filtered,
            own_filter: wire.own_filter,
            entered: wire
                .entered
                .into_iter()
                .map(|p| domain::EnteredProcess {
                    pid: p.pid,
                    comm: p.comm,
                    extra: p.extra,
                })
                .collect(),
            entered_count: wire.entered_count,
            entered_as: match wire.entered_as.as_deref() {
                None => None,
                Some("app") => Some(domain::EnteredAs::App),
                Some("runtime") => Some(domain::EnteredAs::Runtime),
                Some(found) => {
                    return Err(ReadError::Word {
                        field: "entered_as".into(),
                        found: shown(found),
                        wanted: "`app` or `runtime`",
                    });
                }
            },
            start_container_hooks: wire.start_container_hooks,
            unprivileged_exec: wire.unprivileged_exec,
            evidence: wire.evidence.map(read_evidence).transpose()?,
            extra: wire.extra,
        })
    }

    impl From<Sighting> for domain::Sighting {
        fn from(sighting: Sighting) -> Self {
            Self {
                first_ns: sighting.first_ns,
                caller: sighting.caller.map(|caller| domain::Caller {
                    pid: caller.pid,
                    comm: caller.comm,
                    exe: caller.exe,
                    extra: caller.extra,
                }),
                arguments: sighting.arguments.map(|arguments| domain::Arguments {
                    indices: arguments.indices,
                    values: arguments.values,
                    overflow: arguments.overflow,
                    extra: arguments.extra,
                }),
                extra: sighting.extra,
            }
        }
    }

    fn read_phases(
        field: &str,
        wire: ByPhase,
    ) -> Result<BTreeMap<(Arch, Phase), Calls>, ReadError> {
        let mut calls = BTreeMap::new();
        for (arch_name, phases) in wire {
            let arch = arch(field, &arch_name)?;
            for (phase_name, names) in phases {
                let phase = phase(&format!("{field}.{arch_name}"), &phase_name)?;
                calls.insert(
                    (arch, phase),
                    read_calls(&format!("{field}.{arch_name}.{phase_name}"), names)?,
                );
            }
        }
        Ok(calls)
    }

    fn read_calls(field: &str, wire: BTreeMap<String, Sighting>) -> Result<Calls, ReadError> {
        wire.into_iter()
            .map(|(found, sighting)| Ok((name(field, found)?, sighting.into())))
            .collect()
    }

    pub(crate) fn name(field: &str, name: String) -> Result<String, ReadError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(ReadError::Name {
                field: field.to_owned(),
                found: shown(&name),
            });
        }
        Ok(name)
    }

    pub(crate) fn arch(field: &str, name: &str) -> Result<Arch, ReadError> {
        Arch::from_name(name).ok_or_else(|| ReadError::Arch {
            field: field.to_owned(),
            found: shown(name),
        })
    }

    pub(crate) fn phase(field: &str, name: &str) -> Result<Phase, ReadError> {
        Phase::from_name(name).ok_or_else(|| ReadError::Phase {
            field: field.to_owned(),
            found: shown(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minimal() -> Value {
        json!({
            "schema": SCHEMA,
            "recording_id": "00112233445566778899aabbccddeeff",
            "tool_version": "0.1.0",
            "backend": "ebpf",
            "target": {},
            "machine": { "kernel": "6.12.0", "arch": "x86_64" },
            "started_ns": 1,
            "ended_ns": 2,
            "calls": { "x86_64": { "app": { "read": {} } } },
            "denied": {},
            "blocked_at_attach": { "i386": { "pause": {} } },
            "unknown": [{ "arch": "x32", "phase": "exec", "nr": -1 }],
            "losses": {},
            "explanations_lost": 0,
            "filtered": false,
            "own_filter": false,
            "entered": [{ "pid": 1, "comm": "x" }],
            "entered_count": 1,
            "entered_as": "app",
            "start_container_hooks": false
        })
    }

    fn read(value: &Value) -> Result<Observation, ReadError> {
        Observation::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn a_minimal_file() {
        let observation = read(&minimal()).unwrap();
        assert_eq!(observation.recording_id, "00112233445566778899aabbccddeeff");
        assert_eq!(observation.unknown[0].nr, -1);
        let again = Observation::from_json(observation.to_json().as_bytes()).unwrap();
        assert_eq!(again, observation);
        assert!(observation.to_json().ends_with("}\n"));
    }

    /// Every field but the optional ones has to be there: a file without its losses must not look complete.
    #[test]
    fn every_field_is_required() {
        let full = minimal();
        for key in full.as_object().unwrap().keys() {
            let mut cut = full.clone();
            cut.as_object_mut().unwrap().remove(key);
            match read(&cut) {
                Ok(_) => assert_eq!(key, "entered_as"),
                Err(ReadError::Foreign { kind: Kind::Other }) => assert_eq!(key, "schema"),
                Err(ReadError::Field { field, reason }) => {
                    assert_eq!((&*field, &*reason), (&**key, "is missing"));
                }
                Err(error) => panic!("{key}: {error}"),
            }
        }
    }

    #[test]
    fn fields_of_newer_versions_survive_at_every_level() {
        let paths: [&[&str]; 9] = [
            &[],
            &["target"],
            &["machine"],
            &["calls", "x86_64", "app", "read"],
            &["calls", "x86_64", "app", "read", "caller"],
            &["denied", "x86_64", "app", "bpf"],
            &["blocked_at_attach", "i386", "pause"],
            &["unknown", "0"],
            &["entered", "0"],
        ];
        let mut file = minimal();
        file["denied"] = json!({ "x86_64": { "app": { "bpf": {} } } });
        file["calls"]["x86_64"]["app"]["read"]["caller"] = json!({ "pid": 1, "comm": "x" });
        let news = json!({ "deep": [1, null, { "er": "x" }] });
        for path in paths {
            let pointer: String = path.iter().flat_map(|step| ["/", *step]).collect();
            let mut newer = file.clone();
            newer.pointer_mut(&pointer).unwrap()["news"] = news.clone();
            let json = read(&newer).unwrap().to_json();
            let written: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(
                written.pointer(&format!("{pointer}/news")),
                Some(&news),
                "{pointer}"
            );
        }
    }

    #[test]
    fn errors_name_the_field_the_reason_and_the_next_step() {
        let with = |pointer: &str, value: Value| {
            let mut file = minimal();
            *file.pointer_mut(pointer).unwrap() = value;
            file.to_string()
        };
        let cut = minimal().to_string();
        let cases: [(String, &[&str]); 26] = [
            (String::new(), &["empty", "record again"]),
            (" \n".into(), &["empty"]),
            (
                cut[..cut.len() / 2].into(),
                &["ends in the middle", "again"],
            ),
            (cut[..cut.len() - 1].into(), &["ends in the middle"]),
            (format!("{cut}}}"), &["not valid JSON"]),
            ("hello".into(), &["not valid JSON"]),
            (
                "null".into(),
                &["not a JSON object", "record --observation"],
            ),
            ("[1]".into(), &["not a JSON object"]),
            ("17".into(), &["not a JSON object"]),
            ("{}".into(), &["an empty JSON object"]),
            (r#"{"a": 1}"#.into(), &["another kind"]),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.into(),
                &["a seccomp profile, not an observation", "generate"],
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": []}"#.into(),
                &["docker's dialect, not an observation"],
            ),
            (
                r#"{"schema": "seccast/report.v1"}"#.into(),
                &["a report, not an observation"],
            ),
            (
                with("/schema", json!("seccast/observation.v2")),
                &["`schema`", "v2", "newer", "update"],
            ),
            (
                with("/machine/arch", json!("loongarch64")),
                &["`machine.arch`", "`loongarch64`", "newer"],
            ),
            (
                with("/calls", json!({ "sparc": {} })),
                &["`calls`", "`sparc`", "newer"],
            ),
            (
                with("/calls/x86_64", json!({ "boot": {} })),
                &["`calls.x86_64`", "`boot`", "newer"],
            ),
            (
                with("/calls/x86_64/app", json!({ "Read\u{1b}[2J": {} })),
                &["`calls.x86_64.app`", "Read\\u{1b}[2J", "cannot be the name"],
            ),
            (
                with("/calls/x86_64/app/read", json!({ "first_ns": -1 })),
                &["`calls.x86_64.app.read.first_ns`"],
            ),
            (
                with("/unknown/0/phase", json!("later")),
                &["`unknown[0].phase`", "`later`"],
            ),
            (
                with("/backend", json!("magic")),
                &["`backend`", "`magic`", "newer"],
            ),
            (
                with("/entered_as", json!("guest")),
                &["`entered_as`", "`guest`"],
            ),
            (
                with("/recording_id", json!("../../etc")),
                &["`recording_id`", "32 hexadecimal digits"],
            ),
            (
                with("/losses", json!({ "map_full": 1.5 })),
                &["`losses.map_full`"],
            ),
            (
                with("/entered/0/pid", json!(4_294_967_296_u64)),
                &["`entered[0].pid`"],
            ),
        ];
        for (text, expect) in cases {
            let error = Observation::from_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            for part in expect {
                assert!(error.contains(part), "{text:.120}\n{error}");
            }
        }
    }

    #[test]
    fn sizes_are_bounded_before_anything_is_built() {
        let large = vec![b' '; json::MAX_BYTES];
        assert!(matches!(
            Observation::from_json(&[&b"{"[..], &large].concat()),
            Err(ReadError::TooLarge { .. })
        ));
        let many = format!("[{}0]", "0,".repeat(json::MAX_VALUES));
        assert!(matches!(
            Observation::from_json(many.as_bytes()),
            Err(ReadError::TooManyValues)
        ));
        let deep = "[".repeat(100_000);
        assert!(matches!(
            Observation::from_json(deep.as_bytes()),
            Err(ReadError::Syntax(_))
        ));
    }

    #[test]
    fn names_that_no_table_has_are_kept() {
        let mut file = minimal();
        file["calls"]["x86_64"]["app"] = json!({ "from_linux_9": {} });
        let observation = read(&file).unwrap();
        assert!(observation.to_json().contains("from_linux_9"));
    }
}
