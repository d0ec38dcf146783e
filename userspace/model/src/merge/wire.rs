//! Merged observations as files.
//!
//! The recordings stand once, in a table sorted by id; whatever names one does so by its index. Recordings have the form of an
//! observation, without what is empty there because it was joined.

use super::observations::{MergeError, Merged, RecordingId, Seen, UnknownSeen};
use crate::arch::Arch;
use crate::json::{self, Kind};
use crate::observation::wire::v1;
use crate::observation::{Extra, Phase, ReadError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const SCHEMA: &str = "seccast/merged.v1";

type Empty = fn() -> Value;

/// What a recording in the table does not have where it is empty.
const JOINED: [(&str, Empty); 4] = [
    ("calls", || json!({})),
    ("denied", || json!({})),
    ("blocked_at_attach", || json!({})),
    ("unknown", || json!([])),
];

/// Name.
type Names = BTreeMap<String, WireSeen>;

/// Architecture, phase, name.
type ByPhase = BTreeMap<String, BTreeMap<String, Names>>;

#[derive(Serialize, Deserialize)]
struct WireMerged {
    schema: String,
    recordings: Vec<Value>,
    calls: ByPhase,
    denied: ByPhase,
    blocked_at_attach: BTreeMap<String, Names>,
    unknown: Vec<WireUnknown>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize, Deserialize)]
struct WireSeen {
    first_in: usize,
    first: v1::Sighting,
    /// Absent: in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen_in: Option<String>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize, Deserialize)]
struct WireUnknown {
    arch: String,
    phase: String,
    nr: i64,
    /// In the order of the recordings; `null` where the calls were not counted.
    counts: Vec<Option<u64>>,
    first_in: usize,
    first: v1::Sighting,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen_in: Option<String>,
    #[serde(flatten)]
    extra: Extra,
}

impl Merged {
    /// Reads the bytes of a file. Fields that this version does not know are kept.
    ///
    /// # Errors
    /// When the bytes are not merged observations of a known version; the error names the field and the next step.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReadError> {
        let value = json::value(bytes)?;
        match Kind::of(&value) {
            Kind::Merged => {}
            kind => return Err(ReadError::Foreign { kind }),
        }
        match value.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {}
            found => {
                return Err(ReadError::Version {
                    found: v1::shown(found.unwrap_or_default()),
                    reads: SCHEMA,
                });
            }
        }
        let wire: WireMerged =
            json::typed(value).map_err(|(field, reason)| ReadError::Field { field, reason })?;
        read(wire)
    }

    /// The bytes of a file: indented by two, keys in a fixed order, a newline at the end. The same recordings give the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        let table = Table(self.recordings.keys().copied().collect());
        let phases = |calls: &BTreeMap<(Arch, Phase), BTreeMap<String, Seen>>| {
            let mut wire = ByPhase::new();
            for ((arch, phase), names) in calls {
                wire.entry(arch.name().to_owned())
                    .or_default()
                    .insert(phase.name().to_owned(), table.names(names));
            }
            wire
        };
        json::pretty(&WireMerged {
            schema: SCHEMA.to_owned(),
            recordings: self
                .recordings
                .values()
                .map(|recording| {
                    // The twin writes itself without an error.
                    let mut value = json!(v1::Observation::from(recording));
                    if let Some(fields) = value.as_object_mut() {
                        fields.shift_remove("schema");
                        for (key, empty) in JOINED {
                            if fields.get(key) == Some(&empty()) {
                                fields.shift_remove(key);
                            }
                        }
                    }
                    value
                })
                .collect(),
            calls: phases(&self.calls),
            denied: phases(&self.denied),
            blocked_at_attach: self
                .blocked_at_attach
                .iter()
                .map(|(arch, names)| (arch.name().to_owned(), table.names(names)))
                .collect(),
            unknown: self
                .unknown
                .iter()
                .map(
                    |((arch, phase, nr), UnknownSeen { seen, counts })| WireUnknown {
                        arch: arch.name().to_owned(),
                        phase: phase.name().to_owned(),
                        nr: *nr,
                        counts: seen
                            .recordings
                            .iter()
                            .map(|id| counts.get(id).copied())
                            .collect(),
                        first_in: table.index(seen.recording),
                        first: (&seen.first).into(),
                        seen_in: table.ranges(&seen.recordings),
                        extra: seen.extra.clone(),
                    },
                )
                .collect(),
            extra: self.extra.clone(),
        })
    }
}

/// The recordings of a file, sorted when it is written.
struct Table(Vec<RecordingId>);

impl Table {
    fn index(&self, id: RecordingId) -> usize {
        // Every id of the tables is among the recordings, so it is found.
        self.0.binary_search(&id).unwrap_or_else(|at| at)
    }

    fn names(&self, names: &BTreeMap<String, Seen>) -> Names {
        names
            .iter()
            .map(|(name, seen)| {
                let wire = WireSeen {
                    first_in: self.index(seen.recording),
                    first: (&seen.first).into(),
                    seen_in: self.ranges(&seen.recordings),
                    extra: seen.extra.clone(),
                };
                (name.clone(), wire)
            })
            .collect()
    }

    /// `0-16,18`; `None` for all.
    fn ranges(&self, ids: &BTreeSet<RecordingId>) -> Option<String> {
        if ids.len() == self.0.len() {
            return None;
        }
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for at in ids.iter().map(|id| self.index(*id)) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == at => *last = at,
                _ => ranges.push((at, at)),
            }
        }
        let text = |(first, last): &(usize, usize)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        };
        Some(ranges.iter().map(text).collect::<Vec<_>>().join(","))
    }

    /// The inverse of [`Table::ranges`].
    fn ids(&self, field: &str, ranges: Option<&str>) -> Result<BTreeSet<RecordingId>, ReadError> {
        let Some(text) = ranges else {
            return Ok(self.0.iter().copied().collect());
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            self.0.get(first.parse().ok()?..=last.parse().ok()?)
        };
        let mut ids = BTreeSet::new();
        for part in text.split(',') {
            let part = range(part).filter(|part| !part.is_empty());
            ids.extend(part.ok_or_else(|| ReadError::Word {
                field: format!("{field}.seen_in"),
                found: v1::shown(text),
                wanted: "a list of indices of `recordings`, like 0-16,18",
            })?);
        }
        Ok(ids)
    }
}

fn read(wire: WireMerged) -> Result<Merged, ReadError> {
    let mut merged = Merged {
        extra: wire.extra,
        ..Merged::default()
    };
    let mut table = Table(Vec::new());
    for (at, value) in wire.recordings.into_iter().enumerate() {
        let field = format!("recordings[{at}]");
        let of = recording(value).map_err(|error| error.within(&field))?;
        let id = *of
            .recordings
            .keys()
            .next()
            .ok_or_else(|| wrong(&field, "it has no id"))?;
        if table.0.last().is_some_and(|last| *last >= id) {
            return Err(wrong(
                &field,
                "the recordings have to be sorted by `recording_id`, each once",
            ));
        }
        table.0.push(id);
        merged
            .absorb(of)
            .map_err(|error| wrong(&field, &error.to_string()))?;
    }
    let seen = |field: &str, first_in: usize, first: v1::Sighting, seen_in: Option<&str>, extra| {
        let recordings = table.ids(field, seen_in)?;
        let recording = table.0.get(first_in).filter(|id| recordings.contains(id));
        let recording = *recording.ok_or_else(|| {
            wrong(
                &format!("{field}.first_in"),
                "none of the recordings that saw it",
            )
        })?;
        let started_ns = merged
            .recordings
            .get(&recording)
            .map_or(0, |one| one.started_ns);
        Ok::<_, ReadError>(Seen {
            recordings,
            extra,
            ..Seen::new(recording, started_ns, first.into())
        })
    };
    let names = |field: &str, names: Names| {
        names
            .into_iter()
            .map(|(name, wire)| {
                let name = v1::name(field, name)?;
                let field = format!("{field}.{name}");
                let seen = seen(
                    &field,
                    wire.first_in,
                    wire.first,
                    wire.seen_in.as_deref(),
                    wire.extra,
                )?;
                Ok((name, seen))
            })
            .collect::<Result<BTreeMap<_, _>, ReadError>>()
    };
    let phase = |field: &str, name: &str| match v1::phase(field, name)? {
        Phase::Entered => Err(wrong(
            &format!("{field}.entered"),
            "what entered belongs to one recording, in `recordings`",
        )),
        phase => Ok(phase),
    };
    let phases = |field: &str, wire: ByPhase| {
        let mut calls = BTreeMap::new();
        for (arch_name, wire) in wire {
            let arch = v1::arch(field, &arch_name)?;
            let field = format!("{field}.{arch_name}");
            for (phase_name, wire) in wire {
                let phase = phase(&field, &phase_name)?;
                calls.insert(
                    (arch, phase),
                    names(&format!("{field}.{phase_name}"), wire)?,
                );
            }
        }
        Ok::<_, ReadError>(calls)
    };
    let mut tables = Merged {
        calls: phases("calls", wire.calls)?,
        denied: phases("denied", wire.denied)?,
        ..Merged::default()
    };
    for (arch_name, wire) in wire.blocked_at_attach {
        let arch = v1::arch("blocked_at_attach", &arch_name)?;
        let field = format!("blocked_at_attach.{arch_name}");
        tables.blocked_at_attach.insert(arch, names(&field, wire)?);
    }
    for (at, wire) in wire.unknown.into_iter().enumerate() {
        let field = format!("unknown[{at}]");
        let key = (
            v1::arch(&format!("{field}.arch"), &wire.arch)?,
            phase(&format!("{field}.phase"), &wire.phase)?,
            wire.nr,
        );
        let seen = seen(
            &field,
            wire.first_in,
            wire.first,
            wire.seen_in.as_deref(),
            wire.extra,
        )?;
        if wire.counts.len() != seen.recordings.len() {
            return Err(wrong(
                &format!("{field}.counts"),
                "not as long as `seen_in`",
            ));
        }
        let counts = seen.recordings.iter().zip(wire.counts);
        let counts = counts
            .filter_map(|(id, count)| Some((*id, count?)))
            .collect();
        if tables
            .unknown
            .insert(key, UnknownSeen { seen, counts })
            .is_some()
        {
            return Err(wrong(&field, "the number comes twice"));
        }
    }
    merged
        .absorb(tables)
        .map_err(|error| wrong(".", &error.to_string()))?;
    Ok(merged)
}

/// One of the table: an observation without what was joined.
fn recording(mut value: Value) -> Result<Merged, ReadError> {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("schema".to_owned(), crate::observation::wire::SCHEMA.into());
        for (key, empty) in JOINED {
            fields.entry(key).or_insert_with(empty);
        }
    }
    let wire = json::typed(value).map_err(|(field, reason)| ReadError::Field { field, reason })?;
    Merged::of(v1::read(wire)?)
        .map_err(|error: MergeError| wrong("recording_id", &error.to_string()))
}

fn wrong(field: &str, reason: &str) -> ReadError {
    ReadError::Field {
        field: field.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Observation;

    /// Five recordings: `read` by all, `write` by all but the third and the last, a number without a name by the second.
    fn five() -> Merged {
        let one = |id: u32| {
            let mut one = json!({
                "schema": "seccast/observation.v1",
                "recording_id": format!("{id:032x}"),
                "tool_version": "0.1.0",
                "backend": "ebpf",
                "target": { "image": "redis" },
                "machine": { "kernel": "6.12.0", "arch": "x86_64" },
                "started_ns": 1000 * id,
                "ended_ns": 1000 * id + 500,
                "calls": { "x86_64": { "app": { "read": { "first_ns": id, "caller": { "pid": 1, "comm": "a" } } } } },
                "denied": {}, "blocked_at_attach": {}, "unknown": [], "losses": {},
                "explanations_lost": 0, "filtered": false, "own_filter": false, "entered": [], "entered_count": 0,
                "start_container_hooks": false
            });
            if id != 3 && id != 5 {
                one["calls"]["x86_64"]["app"]["write"] = json!({});
            }
            if id == 2 {
                one["unknown"] =
                    json!([{ "arch": "x86_64", "phase": "app", "nr": -1, "count": 3 }]);
            }
            Observation::from_json(one.to_string().as_bytes()).unwrap()
        };
        Merged::new(&[3, 1, 5, 2, 4].map(one)).unwrap()
    }

    fn value() -> Value {
        serde_json::from_str(&five().to_json()).unwrap()
    }

    #[test]
    fn ids_stand_once_and_presence_is_in_ranges() {
        let written = value();
        let ids: Vec<&str> = written["recordings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["recording_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, [1, 2, 3, 4, 5].map(|id| format!("{id:032x}")));
        let calls = &written["calls"]["x86_64"]["app"];
        assert_eq!(
            calls["read"],
            json!({ "first_in": 0, "first": { "first_ns": 1, "caller": { "pid": 1, "comm": "a" } } })
        );
        assert_eq!(
            calls["write"],
            json!({ "first_in": 0, "first": {}, "seen_in": "0-1,3" })
        );
        assert_eq!(
            written["unknown"],
            json!([{
                "arch": "x86_64", "phase": "app", "nr": -1, "counts": [3],
                "first_in": 1, "first": {}, "seen_in": "1"
            }])
        );
        assert_eq!(written["recordings"][0].get("calls"), None);
        insta::assert_snapshot!("merged", five().to_json());
    }

    #[test]
    fn fields_of_newer_versions_survive_at_every_level() {
        let news = json!({ "deep": [1, null] });
        let paths = [
            "",
            "/recordings/1",
            "/recordings/1/target",
            "/recordings/1/machine",
            "/calls/x86_64/app/read",
            "/calls/x86_64/app/read/first",
            "/calls/x86_64/app/read/first/caller",
            "/unknown/0",
            "/unknown/0/first",
        ];
        for path in paths {
            let mut newer = value();
            newer.pointer_mut(path).unwrap()["news"] = news.clone();
            let merged = Merged::from_json(newer.to_string().as_bytes()).unwrap();
            let written: Value = serde_json::from_str(&merged.to_json()).unwrap();
            assert_eq!(
                written.pointer(&format!("{path}/news")),
                Some(&news),
                "{path}"
            );
        }
    }

    #[test]
    fn errors_name_the_field() {
        let cases: [(&str, Value, &str); 16] = [
            (
                "/schema",
                json!("seccast/merged.v2"),
                "`schema`: `seccast/merged.v2` is of a newer seccast, this one reads `seccast/merged.v1`",
            ),
            (
                "/schema",
                json!("seccast/observation.v1"),
                "this is an observation",
            ),
            (
                "/recordings/1/recording_id",
                json!("x"),
                "`recordings[1].recording_id`",
            ),
            (
                "/recordings/1/recording_id",
                json!(format!("{:032x}", 1)),
                "`recordings[1]`: the recordings have to be sorted",
            ),
            (
                "/recordings/1/machine/arch",
                json!("sparc"),
                "`recordings[1].machine.arch`",
            ),
            (
                "/recordings/1/started_ns",
                json!(-1),
                "`recordings[1].started_ns`",
            ),
            ("/recordings/1", json!(7), "`recordings[1]`"),
            ("/recordings", json!([]), "`calls.x86_64.app.read.first_in`"),
            (
                "/calls/x86_64/app/read/first_in",
                json!(9),
                "`calls.x86_64.app.read.first_in`: none of the recordings",
            ),
            (
                "/calls/x86_64/app/write/first_in",
                json!(2),
                "`calls.x86_64.app.write.first_in`: none of the recordings",
            ),
            (
                "/calls/x86_64/app/write/seen_in",
                json!("0-7"),
                "`calls.x86_64.app.write.seen_in`: `0-7` is not a list",
            ),
            (
                "/calls/x86_64/app/write/seen_in",
                json!("3-1"),
                "`calls.x86_64.app.write.seen_in`",
            ),
            (
                "/calls/x86_64/app/write/seen_in",
                json!(""),
                "`calls.x86_64.app.write.seen_in`",
            ),
            (
                "/calls/x86_64",
                json!({ "entered": {} }),
                "`calls.x86_64.entered`: what entered belongs to one recording",
            ),
            (
                "/calls/x86_64/app",
                json!({ "Read": {"first_in": 0, "first": {}} }),
                "`calls.x86_64.app`: `Read` cannot be the name",
            ),
            (
                "/unknown/0/counts",
                json!([1, 2]),
                "`unknown[0].counts`: not as long",
            ),
        ];
        for (path, wrong, expect) in cases {
            let mut file = value();
            *file.pointer_mut(path).unwrap() = wrong;
            let error = Merged::from_json(file.to_string().as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expect), "{path}: {error}");
        }
        for key in [
            "recordings",
            "calls",
            "denied",
            "blocked_at_attach",
            "unknown",
        ] {
            let mut file = value();
            file.as_object_mut().unwrap().remove(key);
            let error = Merged::from_json(file.to_string().as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
