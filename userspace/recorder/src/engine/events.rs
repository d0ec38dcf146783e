//! What engines tell of containers that come: a name or an image of one that is gone already is known from here.

use super::{Client, Details, EngineError, Kind};
use crate::clock;
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// The stream of one engine's events, read beside. It ends when this is dropped.
#[derive(Debug)]
pub struct Events {
    child: Child,
    told: Arc<Mutex<HashMap<String, Told>>>,
    client: Client,
}

/// What was told of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// As far as events tell it: id, name, image.
    pub details: Details,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// A line of `docker events` or `podman events`, or of `nerdctl events`.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "ID")]
    id: Option<String>,
    #[serde(alias = "Type", rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Image")]
    image: Option<String>,
    #[serde(rename = "Name")]
    name: Option<String>,
    #[serde(rename = "Actor")]
    actor: Option<Actor>,
    #[serde(rename = "Attributes")]
    attributes: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: HashMap<String, String>,
}

/// What `ctr events` prints behind the topic.
#[derive(Deserialize)]
struct Created {
    id: String,
    #[serde(default)]
    image: String,
}

impl Events {
    /// Subscribes to what comes from now on.
    ///
    /// # Errors
    /// As [`Events::subscribe_since`].
    pub fn subscribe(client: &Client) -> Result<Self, EngineError> {
        Self::subscribe_since(client, Duration::from_nanos(clock::unix_ns()))
    }

    /// Subscribes. Events since `since` (after the epoch) are told, also those of before the engine heard of us, where it
    /// keeps them (docker, podman); containerd does not.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn subscribe_since(client: &Client, since: Duration) -> Result<Self, EngineError> {
        let since = since.as_secs().to_string();
        let words: Vec<&str> = match client.kind() {
            Kind::Docker => vec![
                "events",
                "--since",
                &since,
                "--filter",
                "type=container",
                "--format",
                "{{json .}}",
            ],
            Kind::Podman => vec![
                "events",
                "--since",
                &since,
                "--filter",
                "type=container",
                "--format",
                "json",
            ],
            Kind::Nerdctl => vec!["events", "--format", "{{json .}}"],
            _ => vec!["events"],
        };
        let mut child = client
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| EngineError::NoClient {
                engine: client.kind().name(),
                program: client.words().first().cloned().unwrap_or_default(),
                source,
            })?;
        let told = Arc::new(Mutex::new(HashMap::new()));
        if let Some(out) = child.stdout.take() {
            let told = Arc::clone(&told);
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Some(of) = read(&line) {
                        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                        told.insert(of.details.id.clone(), of);
                    }
                }
            });
        }
        Ok(Self {
            child,
            told,
            client: client.clone(),
        })
    }

    /// Whose they are.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What was told of a container by now.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<Told> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// The ids of those for which `is` holds.
    pub fn ids(&self, is: impl Fn(&Told) -> bool) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter()
            .filter(|(_, told)| is(told))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(line: &str) -> Option<Told> {
    if !line.starts_with('{') {
        // TIME NAMESPACE TOPIC JSON
        let (_, rest) = line.split_once("/containers/create ")?;
        let created: Created = serde_json::from_str(rest).ok()?;
        let details = Details {
            id: created.id,
            image: Some(created.image).filter(|image| !image.is_empty()),
            ..Details::default()
        };
        return Some(Told {
            details,
            labels: HashMap::new(),
        });
    }
    let line: Line = serde_json::from_str(line).ok()?;
    if line.kind.is_some_and(|kind| kind != "container") {
        return None;
    }
    let (actor, attributes) = line.actor.map(|actor| (actor.id, actor.attributes)).unzip();
    let labels = attributes.or(line.attributes).unwrap_or_default();
    let text = |own: Option<String>, name: &str| own.or_else(|| labels.get(name).cloned());
    Some(Told {
        details: Details {
            id: line.id.or(actor)?,
            name: text(line.name, "name"),
            image: text(line.image, "image"),
            ..Details::default()
        },
        labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_tells_id_name_and_image() {
        let check = |line: &str, expected: Option<(&str, Option<&str>, Option<&str>)>| {
            let told = read(line);
            let told = told.as_ref().map(|told| {
                let details = &told.details;
                (
                    details.id.as_str(),
                    details.name.as_deref(),
                    details.image.as_deref(),
                )
            });
            assert_eq!(told, expected, "{line}");
        };
        check(
            r#"{"status":"start","id":"a1","from":"bb:1","Type":"container","Action":"start","Actor":{"ID":"a1","Attributes":{"image":"bb:1","name":"web","com.docker.compose.project":"x"}},"scope":"local","time":1}"#,
            Some(("a1", Some("web"), Some("bb:1"))),
        );
        check(
            r#"{"ID":"b2","Image":"localhost/bb:1","Name":"web","Status":"create","Time":"t","Type":"container","Attributes":{}}"#,
            Some(("b2", Some("web"), Some("localhost/bb:1"))),
        );
        check(
            r#"2026-11-24 10:00:00.1 +0000 UTC k8s.io /containers/create {"id":"c1","image":"localhost/bb:1","runtime":{"name":"io.containerd.runc.v2"}}"#,
            Some(("c1", None, Some("localhost/bb:1"))),
        );
        check(
            r#"{"ID":"x","Name":"n","Status":"pull","Type":"image","Attributes":null}"#,
            None,
        );
        check("2026 k8s.io /tasks/start {}", None);
        check("{", None);
    }
}
