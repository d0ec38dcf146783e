//! Which recordings are of one life of a container, and which are of one target.
//!
//! Both are decided from what the recordings carry. If that does not tell, two recordings are of two lives, and of two targets.

use super::observations::{Merged, RecordingId};
use crate::arch::Arch;
use crate::observation::{Life, Observation, Phase, Sighting, Target};
use std::collections::{BTreeMap, BTreeSet};

/// Process ids and programs that are kept of a recording: the smallest, and the first by name.
pub(super) const MAX_KEPT: usize = 64;

/// Programs that run others' files: that two containers run one of these says nothing.
const INTERPRETERS: [&str; 13] = [
    "ash", "bash", "busybox", "dash", "deno", "env", "java", "node", "perl", "php", "python",
    "ruby", "sh",
];

/// For each recording one that stands for its life: the first of those that share it.
pub(crate) type Lives = BTreeMap<RecordingId, RecordingId>;

impl Merged {
    /// Which recordings share a life.
    pub(crate) fn lives(&self) -> Lives {
        let mut lives: Lives = self.recordings.keys().map(|id| (*id, *id)).collect();
        // Only recordings of one place can share a life.
        let mut places: BTreeMap<Place, Vec<(&RecordingId, &Observation)>> = BTreeMap::new();
        for (id, recording) in &self.recordings {
            if let Some(place) = Place::of(recording) {
                places.entry(place).or_default().push((id, recording));
            }
        }
        for (place, recordings) in places {
            for (at, (id, one)) in recordings.iter().enumerate() {
                for (other_id, other) in recordings.iter().skip(at + 1) {
                    if share_life(&place, one, other) {
                        join_lives(&mut lives, **id, **other_id);
                    }
                }
            }
        }
        lives
    }

    /// How many lives these recordings are of.
    pub(crate) fn count_lives(lives: &Lives, recordings: &BTreeSet<RecordingId>) -> usize {
        let of = |id: &RecordingId| lives.get(id).copied().unwrap_or(*id);
        recordings.iter().map(of).collect::<BTreeSet<_>>().len()
    }

    /// The recordings that began after their target's start, and that no recording of the same target with its start completes.
    pub(crate) fn without_start(&self) -> BTreeMap<RecordingId, &Observation> {
        let is_late = |one: &&Observation| one.started_late_ns.is_some();
        let whole: Vec<&Observation> = self
            .recordings
            .values()
            .filter(|one| !is_late(one))
            .collect();
        self.recordings
            .iter()
            .filter(|(_, one)| {
                is_late(one) && !whole.iter().any(|whole| are_of_one_target(one, whole))
            })
            .map(|(id, one)| (*id, one))
            .collect()
    }
}

/// Both lives become one, named after the smaller id.
fn join_lives(lives: &mut Lives, one: RecordingId, other: RecordingId) {
    let of = |lives: &Lives, id| lives.get(&id).copied().unwrap_or(id);
    let (one, other) = (of(lives, one), of(lives, other));
    for life in lives.values_mut().filter(|life| **life == one.max(other)) {
        *life = one.min(other);
    }
}

/// Where a life is lived.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    /// An engine's id of a container: it is like no other.
    Container(&'a str),
    /// A cgroup, which another machine may have as well.
    Cgroup {
        path: &'a str,
        kernel: &'a str,
        arch: Arch,
    },
}

impl<'a> Place<'a> {
    fn of(recording: &'a Observation) -> Option<Self> {
        if let Some(id) = unique_id(&recording.target) {
            return Some(Self::Container(id));
        }
        Some(Self::Cgroup {
            path: recording.target.cgroup_path.as_deref()?,
            kernel: &recording.machine.kernel,
            arch: recording.machine.arch,
        })
    }
}

/// A container's id, if it is an engine's; those of a runtime alone are names.
fn unique_id(target: &Target) -> Option<&str> {
    let id = target.container_id.as_deref()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// Two recordings of one place are of one life if they overlap, counted from the start of what they watched. A cgroup needs a process that
/// both saw.
fn share_life(place: &Place, one: &Observation, other: &Observation) -> bool {
    let overlap = began_ns(one) <= other.ended_ns && began_ns(other) <= one.ended_ns;
    overlap
        && match place {
            Place::Container(_) => true,
            Place::Cgroup { .. } => !one.life.pids.is_disjoint(&other.life.pids),
        }
}

/// When what was recorded began, nanoseconds since the Unix epoch: of a recording that waited its first call, of a late one the start of
/// the oldest process.
fn began_ns(recording: &Observation) -> u64 {
    match recording.started_late_ns {
        Some(late) => recording.started_ns.saturating_sub(late),
        None => recording
            .started_ns
            .saturating_add(recording.life.first_ns.unwrap_or(0)),
    }
}

/// Whether the start of `whole` is the one that `late` lacks: the same image, container and program on the same ABI, as far as both say.
fn are_of_one_target(late: &Observation, whole: &Observation) -> bool {
    let (one, other) = (&late.target, &whole.target);
    if late.machine.arch != whole.machine.arch {
        return false;
    }
    let differ =
        |one: Option<&str>, other: Option<&str>| one.zip(other).is_some_and(|(a, b)| a != b);
    if differ(one.image_digest.as_deref(), other.image_digest.as_deref()) {
        return false;
    }
    if unique_id(one).is_some() && unique_id(one) == unique_id(other) {
        return true;
    }
    let same_digest = one.image_digest.is_some() && one.image_digest == other.image_digest;
    if !same_digest && one.image != other.image {
        return false;
    }
    let has_image = same_digest || one.image.is_some();
    let in_pods = one.pod.is_some() && other.pod.is_some();
    // Replicas have names of their own, but the containers of a Pod have names that all of its replicas share.
    if (in_pods || !has_image) && differ(name(one), name(other)) {
        return false;
    }
    if !one.command.is_empty() && !other.command.is_empty() && one.command != other.command {
        return false;
    }
    let has_name = name(one).is_some() && name(one) == name(other);
    match &late.life.program {
        Some(program) if !whole.life.programs.is_empty() => {
            whole.life.programs.contains(program) && (has_name || !is_interpreter(program))
        }
        _ => has_image && has_name,
    }
}

/// Whether it is one, of any version.
fn is_interpreter(program: &str) -> bool {
    let name = program.trim_end_matches(|it: char| it.is_ascii_digit() || it == '.');
    INTERPRETERS.contains(&name)
}

/// The name that a container was given.
fn name(target: &Target) -> Option<&str> {
    let id = || {
        target
            .container_id
            .as_deref()
            .filter(|_| unique_id(target).is_none())
    };
    target.container_name.as_deref().or_else(id)
}

impl Life {
    /// What the calls of a recording tell.
    pub(super) fn of(recording: &Observation) -> Self {
        let of_application = |phase: Phase| phase == Phase::App;
        let called = recording.calls.iter().flat_map(|((_, phase), names)| {
            names.values().map(|first| (of_application(*phase), first))
        });
        let blocked = recording.blocked_at_attach.values().flatten();
        let blocked = blocked.map(|(_, first)| (true, first));
        let mut life = Self::default();
        let mut programs: BTreeMap<&str, usize> = BTreeMap::new();
        for (is_applications, first) in called.chain(blocked) {
            let Sighting {
                first_ns, caller, ..
            } = first;
            life.first_ns = life.first_ns.into_iter().chain(*first_ns).min();
            let Some(caller) = caller.as_ref().filter(|_| is_applications) else {
                continue;
            };
            life.pids.insert(caller.pid);
            if let Some(file) = caller.exe.as_deref().and_then(file_name) {
                *programs.entry(file).or_default() += 1;
            }
        }
        // Of two that made as many the first by name.
        let most = programs.iter().rev().max_by_key(|(_, calls)| **calls);
        life.program = most.map(|(file, _)| (*file).to_owned());
        life.programs = programs.into_keys().map(str::to_owned).collect();
        life.trim();
        life
    }

    /// Keeps the first of what there is too much of: of a union the same, whatever was joined first.
    pub(super) fn trim(&mut self) {
        while self.pids.len() > MAX_KEPT {
            self.pids.pop_last();
        }
        while self.programs.len() > MAX_KEPT {
            self.programs.pop_last();
        }
    }
}

/// The last part of a path, if it is a name.
fn file_name(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::tests::app;
    use crate::observation::{Caller, Pod};
    use crate::report::Incomplete;

    fn id(fill: char) -> String {
        std::iter::repeat_n(fill, 64).collect()
    }

    /// A recording by this program and process, from `began` to `ended`.
    fn of(nth: u8, program: &str, pid: u32, (began, ended): (u64, u64)) -> Observation {
        let mut one = app(nth, &["read", "write"]);
        (one.started_ns, one.ended_ns) = (began, ended);
        for first in one.calls.values_mut().flat_map(BTreeMap::values_mut) {
            first.first_ns = Some(1);
            first.caller = Some(Caller {
                pid,
                comm: "any".to_owned(),
                exe: Some(format!("/usr/bin/{program}")),
                ..Caller::default()
            });
        }
        one.target = Target::default();
        one
    }

    fn late(mut one: Observation, by: u64) -> Observation {
        one.started_late_ns = Some(by);
        one
    }

    fn within(mut one: Observation, target: Target) -> Observation {
        one.target = target;
        one
    }

    fn lives(all: &[Observation]) -> usize {
        // What is in the file counts.
        let merged = Merged::new(all).unwrap();
        let merged = Merged::from_json(merged.to_json().as_bytes()).unwrap();
        let of = merged.presence()["read"];
        assert_eq!(of.seen, of.of);
        of.of
    }

    #[test]
    fn presence_counts_lives_and_not_files() {
        let container = |fill| Target {
            container_id: Some(id(fill)),
            ..Target::default()
        };
        let cgroup = |path: &str| Target {
            cgroup_path: Some(path.to_owned()),
            ..Target::default()
        };
        let whole = || of(1, "web", 10, (1000, 2000));
        let cases = [
            // Two recorders at one container.
            (
                container('a'),
                container('a'),
                of(2, "web", 10, (1500, 1900)),
                1,
            ),
            // One after the other: the second began late, at the same process.
            (
                container('a'),
                container('a'),
                late(of(2, "web", 10, (3000, 4000)), 2000),
                1,
            ),
            // It was started again meanwhile.
            (
                container('a'),
                container('a'),
                late(of(2, "web", 20, (3000, 4000)), 500),
                2,
            ),
            (
                container('a'),
                container('a'),
                of(2, "web", 20, (3000, 4000)),
                2,
            ),
            (
                container('a'),
                container('b'),
                of(2, "web", 10, (1000, 2000)),
                2,
            ),
            // Where there is no id, the place, the time and a process have to agree.
            (
                cgroup("/web"),
                cgroup("/web"),
                of(2, "web", 10, (1500, 1900)),
                1,
            ),
            (
                cgroup("/web"),
                cgroup("/web"),
                of(2, "web", 11, (1500, 1900)),
                2,
            ),
            (
                cgroup("/web"),
                cgroup("/web"),
                of(2, "web", 10, (2500, 2900)),
                2,
            ),
            (
                cgroup("/web"),
                cgroup("/api"),
                of(2, "web", 10, (1500, 1900)),
                2,
            ),
            (
                Target::default(),
                Target::default(),
                of(2, "web", 10, (1500, 1900)),
                2,
            ),
        ];
        for (one, other, second, expect) in cases {
            let all = [within(whole(), one), within(second, other)];
            assert_eq!(lives(&all), expect, "{all:?}");
            let third = within(of(3, "web", 99, (1000, 2000)), container('c'));
            assert_eq!(lives(&[&all[..], &[third]].concat()), expect + 1);
        }
    }

    /// The entry point is a script that executes the server: most calls are first made by the shell.
    #[test]
    fn a_server_behind_an_entry_point_is_the_same_target() {
        let image = || Target {
            image: Some("redis".to_owned()),
            ..Target::default()
        };
        let caller = |exe: &str| Sighting {
            caller: Some(Caller {
                exe: Some(exe.to_owned()),
                ..Caller::default()
            }),
            ..Sighting::default()
        };
        let mut whole = within(of(1, "docker-entrypoint.sh", 1, (10, 20)), image());
        let calls = whole.calls.values_mut().next().unwrap();
        calls.insert("accept4".to_owned(), caller("/usr/bin/redis-server"));
        let late = within(late(of(2, "redis-server", 1, (50, 60)), 7), image());
        let incomplete = |all: &[Observation]| Merged::new(all).unwrap().incomplete();
        assert_eq!(incomplete(&[whole.clone(), late.clone()]), []);
        let other = within(of(3, "redis-cli", 1, (50, 60)), image());
        assert_eq!(incomplete(&[other.clone(), late.clone()]).len(), 1);
        // One that completes it is enough.
        assert_eq!(incomplete(&[other, whole, late]), []);
    }

    #[test]
    fn a_start_completes_recordings_of_the_same_target_alone() {
        let image = |image: &str| Target {
            image: Some(image.to_owned()),
            ..Target::default()
        };
        let digest = |name: &str, digest: &str| Target {
            image_digest: Some(digest.to_owned()),
            ..image(name)
        };
        let container = |name: &str| Target {
            container_name: Some(name.to_owned()),
            ..Target::default()
        };
        let named = |of: &str, name: &str| Target {
            container_name: Some(name.to_owned()),
            ..image(of)
        };
        let pod = |pod: &str, name: &str, digest: &str| Target {
            image_digest: Some(digest.to_owned()),
            container_name: Some(name.to_owned()),
            pod: Some(Pod {
                namespace: "shop".to_owned(),
                name: pod.to_owned(),
                ..Pod::default()
            }),
            ..Target::default()
        };
        let command = |command: &str| Target {
            command: vec![command.to_owned()],
            ..Target::default()
        };
        let same_id = || Target {
            container_id: Some(id('a')),
            ..Target::default()
        };
        let nothing = Target::default;
        // What the late one is of, what the one with a start is of, and their programs.
        let cases = [
            (image("redis"), image("redis"), "redis", "redis", true),
            (image("redis"), image("nginx"), "redis", "redis", false),
            (image("redis"), nothing(), "redis", "redis", false),
            // Another program of the same image.
            (image("busybox"), image("busybox"), "httpd", "sh", false),
            (digest("a", "1"), digest("b", "1"), "web", "web", true),
            (digest("a", "1"), digest("a", "2"), "web", "web", false),
            (same_id(), same_id(), "web", "sh", true),
            (
                pod("web-1", "web", "1"),
                pod("web-2", "web", "1"),
                "web",
                "web",
                true,
            ),
            (
                pod("web-1", "web", "1"),
                pod("web-2", "log", "1"),
                "web",
                "web",
                false,
            ),
            (
                pod("web-1", "web", "1"),
                pod("web-2", "web", "1"),
                "",
                "",
                true,
            ),
            (image("redis"), image("redis"), "", "", false),
            // Any number of programs run by a shell are of one image; a name tells them apart.
            (image("busybox"), image("busybox"), "sh", "sh", false),
            (image("a"), image("a"), "python3.11", "python3.11", false),
            (named("a", "job"), named("a", "job"), "sh", "sh", true),
            (named("a", "job-1"), named("a", "job-2"), "web", "web", true),
            (named("a", "job"), named("a", "job"), "web", "api", false),
            (named("a", "job"), named("a", "job"), "", "", true),
            (container("web"), container("web"), "web", "web", true),
            (container("web"), container("api"), "web", "web", false),
            (nothing(), command("web"), "web", "web", true),
            (nothing(), command("api"), "web", "api", false),
            (command("web"), command("web -x"), "web", "web", false),
            (nothing(), nothing(), "", "", false),
        ];
        for (late_target, target, program, other, heals) in cases {
            let one = within(late(of(1, program, 1, (50, 60)), 7), late_target);
            let whole = within(of(2, other, 2, (10, 20)), target);
            let merged = Merged::new(&[one.clone(), whole.clone()]).unwrap();
            let merged = Merged::from_json(merged.to_json().as_bytes()).unwrap();
            let reasons = merged.incomplete();
            let late = matches!(&*reasons, [Incomplete::StartedLate { nanoseconds: 7 }]);
            assert_eq!(late, !heals, "{one:?} {whole:?}");
            let codes: Vec<&str> = merged.diagnose().iter().map(|found| found.code).collect();
            assert_eq!(codes.contains(&"SC0006"), !heals);
            assert_eq!(codes.contains(&"SC0013"), heals);
            // The start of another machine is another one.
            let mut elsewhere = whole;
            elsewhere.machine.arch = Arch::Aarch64;
            let merged = Merged::new(&[one, elsewhere]).unwrap();
            assert_eq!(merged.incomplete().len(), 1);
        }
    }
}
