//! Workloads of a cluster.
//!
//! Everything is asked, and rehearsed by a dry run on the server, before anything is changed.

use super::{diff, look_up, usage, verb, warn};
use crate::{
    args::attach::AttachArgs,
    exit::Exit,
    output::{self, color::Tone, file::Destination},
};
use anyhow::{Context as _, anyhow, bail};
use seccast_kube::{
    cluster::{Access, Cluster, ClusterError},
    pod::{self, LocalhostProfile, PathError},
    rollout::{self, Ended, Meaning, News, Trouble},
    workload::{Effect, MANAGER, Reference, Slot, Workload},
};
use seccast_model::Profile;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// Attaches to each of `names`, all `KIND/NAME`.
pub(super) fn run(args: &AttachArgs, names: &[String]) -> anyhow::Result<Exit> {
    let references: Result<Vec<Reference>, _> = names.iter().map(|name| name.parse()).collect();
    let references = references.map_err(|error| usage(error.to_string()))?;
    if args.in_place {
        return Err(usage("--in-place is for files".to_owned()));
    }
    if args.values_path.is_some() {
        return Err(usage("--values-path is for files".to_owned()));
    }
    let of_any = |typed: &&String| references.iter().any(|it| named_in(typed, it).is_some());
    if let Some(typed) = args.container.iter().find(|typed| !of_any(typed)) {
        return Err(usage(format!(
            "-c {typed} is of none of the workloads that are named"
        )));
    }
    let wanted = args.wanted().map(str::parse).transpose();
    let wanted: Option<LocalhostProfile> =
        wanted.map_err(|error: PathError| usage(format!("--profile: {error}")))?;
    let content = match (&wanted, args.detach) {
        (Some(wanted), false) => look_up(&args.profiles, wanted, args.quiet)?,
        _ => None,
    };
    let profile =
        wanted.map(|path| json!({"type": "Localhost", "localhostProfile": path.as_str()}));
    let cluster = Cluster::connect(&Access {
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
        namespace: args.namespace.clone(),
    })?;
    let plans = references.iter().map(|reference| {
        let plan = plan(
            &cluster,
            args,
            reference,
            profile.as_ref(),
            content.as_ref(),
        );
        plan.with_context(|| format!("cannot {} {reference}", verb(args)))
    });
    let plans = plans.collect::<anyhow::Result<Vec<_>>>()?;
    if args.check {
        return Ok(checked(&plans));
    }
    if args.dry_run {
        Destination::check(Path::new("-"))?.show(&differences(&plans)?)?;
        return Ok(Exit::Done);
    }
    for plan in &plans {
        carry_out(&cluster, args, plan)?;
    }
    Ok(Exit::Done)
}

/// What is to be done to one workload.
struct Plan {
    workload: Workload,
    /// What each container is to have; None: nothing.
    change: BTreeMap<Slot, Option<Value>>,
    /// What the server would make of it; None when it is as wanted.
    after: Option<Workload>,
}

fn plan(
    cluster: &Cluster,
    args: &AttachArgs,
    reference: &Reference,
    localhost: Option<&Value>,
    content: Option<&Profile>,
) -> anyhow::Result<Plan> {
    let workload = Workload::get(cluster, reference)?;
    if reference.kind.effect == Effect::Immutable {
        bail!(immutable(cluster, &workload));
    }
    let spec = workload.pod_spec();
    if !args.detach {
        pod::attachable(spec)?;
    }
    let named = args
        .container
        .iter()
        .filter_map(|typed| named_in(typed, reference));
    let named: Vec<_> = named.map(str::to_owned).collect();
    let chosen = pod::choose(spec, &named).map_err(|error| usage(error.to_string()))?;
    let mut change = BTreeMap::new();
    for container in &chosen {
        let slot = Slot::from(container);
        if !args.detach {
            let what = format!("{reference}, container {}", container.name);
            warn(&what, spec, container, content, args.quiet);
            change.insert(slot, localhost.cloned());
        // With --profile only this one is taken out.
        } else if localhost.is_none() || workload.profile(&slot) == localhost {
            change.insert(slot, None);
        }
    }
    let as_wanted = change
        .iter()
        .all(|(slot, profile)| workload.profile(slot) == profile.as_ref());
    // Where it is only compared, nobody has to be allowed to change it.
    let after = if as_wanted || args.check {
        None
    } else {
        let intent = workload.intent(&change, false);
        let after = workload.apply(cluster, &intent, args.force_conflicts, true)?;
        accepted(&workload, &after, &change)?;
        Some(after)
    };
    Ok(Plan {
        workload,
        change,
        after,
    })
}

/// Whether what the server made of it is what was wanted, and nothing else.
fn accepted(
    before: &Workload,
    after: &Workload,
    change: &BTreeMap<Slot, Option<Value>>,
) -> anyhow::Result<()> {
    if [false, true]
        .iter()
        .any(|init| after.names(*init) != before.names(*init))
    {
        bail!(
            "the API server changes the order of the containers, and init containers run in it; attach to the manifest instead"
        );
    }
    for (slot, profile) in change {
        if after.profile(slot) != profile.as_ref() {
            bail!(kept_by_others(after, slot));
        }
    }
    Ok(())
}

/// The container that is meant by `app`, `web/app` or `Deployment/web/app`, where it is of this workload.
fn named_in<'a>(typed: &'a str, reference: &Reference) -> Option<&'a str> {
    let Some((workload, name)) = typed.rsplit_once('/') else {
        return Some(typed);
    };
    let with_kind = |it: &str| it.parse().is_ok_and(|it: Reference| it == *reference);
    (workload == reference.name || with_kind(workload)).then_some(name)
}

/// Why a Pod or Job cannot be changed, and which workload its template comes from.
fn immutable(cluster: &Cluster, workload: &Workload) -> String {
    let kind = workload.reference.kind.name;
    let mut made_by = workload.controller();
    // A Pod's ReplicaSet is a Deployment's most of the time. What may not be looked at stays unsaid.
    if let Some(replicas) = made_by
        .as_ref()
        .filter(|it| it.kind.name == "ReplicaSet" || it.kind.name == "Job")
        && let Ok(replicas) = Workload::get(cluster, replicas)
        && let Some(above) = replicas.controller()
    {
        made_by = Some(above);
    }
    let next = match (made_by, kind) {
        (Some(above), _) => format!("it was made by {above}: attach to that"),
        (None, "Job") => "attach to its manifest, delete the Job, and apply it again".to_owned(),
        _ => "attach to its manifest, delete the Pod, and apply it again".to_owned(),
    };
    format!(
        "Kubernetes lets nobody change the securityContext of a {kind} once it is there; {next}"
    )
}

/// After an apply without our field it is still there.
fn kept_by_others(after: &Workload, slot: &Slot) -> String {
    let owners = after
        .owned(|manager| manager != MANAGER)
        .remove(slot)
        .unwrap_or_default();
    let profile = after
        .profile(slot)
        .map_or_else(|| "none".to_owned(), described);
    format!(
        "container {} has its profile ({profile}) by somebody else, whose it stays: {}; take it out where that is made: a file that is \
         applied (`seccast attach FILE --detach --in-place`), the values of a chart, or `kubectl edit {}`",
        slot.name,
        owners.join(", "),
        after.reference,
    )
}

fn described(profile: &Value) -> String {
    pod::described(profile).unwrap_or_else(|| "of no type".to_owned())
}

fn described_or_none(profile: Option<&Value>) -> String {
    profile.map_or_else(|| "no profile of its own".to_owned(), described)
}

/// A line for whatever is not as wanted.
fn checked(plans: &[Plan]) -> Exit {
    let mut exit = Exit::Done;
    for Plan {
        workload, change, ..
    } in plans
    {
        for (slot, profile) in change {
            let has = workload.profile(slot);
            if has != profile.as_ref() {
                exit = Exit::Findings;
                let (has, wanted) = (described_or_none(has), described_or_none(profile.as_ref()));
                let line = format!(
                    "{}, container {}: {has}, wanted: {wanted}",
                    workload.reference, slot.name
                );
                output::tagged(Tone::Bad, "not as wanted", &line);
            }
        }
    }
    exit
}

/// A unified diff of the Pod templates.
fn differences(plans: &[Plan]) -> anyhow::Result<String> {
    let mut text = String::new();
    for Plan {
        workload, after, ..
    } in plans
    {
        let Some(after) = after else {
            output::note(&format!("{}: as wanted already", workload.reference));
            continue;
        };
        let yaml = |workload: &Workload| serde_saphyr::to_string(workload.template());
        let name = format!("{}: its Pod template", workload.reference);
        let then = format!("{name} then");
        text.push_str(&diff([&name, &then], &yaml(workload)?, &yaml(after)?));
    }
    Ok(text)
}

/// Tries, since controllers write to workloads as well.
const TRIES: usize = 5;

/// Applies it to what the workload is by now. Since it was rehearsed, another container of it may have got a profile, which an intent of
/// then would take out.
fn apply(cluster: &Cluster, args: &AttachArgs, plan: &Plan) -> anyhow::Result<()> {
    let Plan {
        workload, change, ..
    } = plan;
    let mut tries = 0;
    let (now, after) = loop {
        let now = Workload::get(cluster, &workload.reference)?;
        unchanged(workload, &now, change)?;
        tries += 1;
        let intent = now.intent(change, true);
        match now.apply(cluster, &intent, args.force_conflicts, false) {
            Ok(after) => break (now, after),
            Err(ClusterError::Changed { .. }) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    };
    accepted(&now, &after, change).map_err(|error| {
        let undo = undo(args, plan);
        anyhow!("it was changed, and not as it was rehearsed: {error:#}; to go back: {undo}")
    })
}

/// The same object, with what it had in the containers that are meant.
fn unchanged(
    before: &Workload,
    now: &Workload,
    change: &BTreeMap<Slot, Option<Value>>,
) -> anyhow::Result<()> {
    if now.object["metadata"]["uid"] != before.object["metadata"]["uid"] {
        bail!("it was deleted and made again meanwhile; run it again");
    }
    for slot in change.keys() {
        let there = now.names(slot.init).contains(&slot.name);
        if !there || now.profile(slot) != before.profile(slot) {
            bail!(
                "container {} was changed meanwhile; run it again",
                slot.name
            );
        }
    }
    Ok(())
}

fn carry_out(cluster: &Cluster, args: &AttachArgs, plan: &Plan) -> anyhow::Result<()> {
    let Plan {
        workload,
        change,
        after,
    } = plan;
    let reference = &workload.reference;
    let say = |line: &str| {
        if !args.quiet {
            output::note(&format!("{reference}: {line}"));
        }
    };
    if after.is_some() {
        apply(cluster, args, plan).with_context(|| format!("cannot {} {reference}", verb(args)))?;
        for (slot, profile) in change {
            let (was, is) = (workload.profile(slot), profile.as_ref());
            say(&format!(
                "container {}: {}, was: {}",
                slot.name,
                described_or_none(is),
                described_or_none(was)
            ));
        }
    } else {
        say("as wanted already");
    }
    if args.timeout.is_zero() {
        return Ok(());
    }
    let news = |news: News<'_>| match news {
        News::Stands(what) => say(what),
        News::Trouble(trouble) => {
            output::warning(
                &format!("{reference}: {}", in_words(trouble)),
                Some(&advice(trouble)),
            );
        }
        News::Blind(error) => output::warning(
            &format!("what its Pods wait for cannot be seen: {error}"),
            None,
        ),
    };
    match rollout::wait(cluster, workload, change, args.timeout, news)? {
        Ended::Still(why) => say(why),
        Ended::Done { pods, after } => {
            let how = if args.detach {
                "without it"
            } else {
                "under it"
            };
            let line = format!("{} {how}", count(pods, "Pod runs", "Pods run"));
            if plan.after.is_none() {
                say(&line);
            } else {
                say(&format!("{line} after {:.1} s", after.as_secs_f64()));
            }
            if plan.after.is_some() && !args.detach {
                say(
                    "the API server does not know whether nodes without such a Pod have the profile: `seccast install` puts it there",
                );
            }
        }
        Ended::Not {
            what,
            given_up,
            troubles,
        } => {
            let each: Vec<_> = troubles.iter().map(in_words).collect();
            let each = if each.is_empty() {
                String::new()
            } else {
                format!(": {}", each.join("; "))
            };
            let limit = if given_up {
                String::new()
            } else {
                format!(" within {}", humantime::format_duration(args.timeout))
            };
            return Err(anyhow!(
                "{reference}: not rolled out{limit}: {what}{each}; Pods that were ready before keep running; to go back: {}",
                undo(args, plan)
            ));
        }
    }
    Ok(())
}

fn count(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn in_words(trouble: &Trouble) -> String {
    let Trouble {
        container,
        reason,
        message,
        pods,
        nodes,
        ..
    } = trouble;
    let who = count(
        i64::try_from(*pods).unwrap_or(i64::MAX),
        "new Pod",
        "new Pods",
    );
    let nodes = nodes
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let place = if nodes.is_empty() {
        String::new()
    } else {
        format!(" on {nodes}")
    };
    let container = if container.is_empty() {
        String::new()
    } else {
        format!(", container {container}")
    };
    format!("{who}{place}{container}: {reason}: {message}")
}

fn advice(trouble: &Trouble) -> String {
    let nodes = trouble
        .nodes
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match &trouble.meaning {
        Some(Meaning::Missing { path }) => format!(
            "{nodes} has no {path}: put it there with `seccast install` or the DaemonSet; the kubelet then goes on by itself. Or attach the right path"
        ),
        Some(Meaning::Unusable) => {
            "the runtime does not take the file as a profile: `seccast convert` makes a plain one, `seccast install` puts it on the node".to_owned()
        }
        Some(Meaning::Killed) => {
            "code 159 is SIGSYS: a filter killed it; `seccast verify --container` on that node says which call".to_owned()
        }
        Some(Meaning::Ended) => {
            "`kubectl logs --previous` has its last words; `seccast verify --container` on that node says which calls the profile denies".to_owned()
        }
        None => "`kubectl describe pod` says more".to_owned(),
    }
}

/// The command that gives the workload what it had.
fn undo(args: &AttachArgs, plan: &Plan) -> String {
    let Plan {
        workload, change, ..
    } = plan;
    let reference = &workload.reference;
    let had: Vec<_> = change
        .keys()
        .map(|slot| (slot, workload.profile(slot)))
        .collect();
    let names: String = change
        .keys()
        .map(|slot| format!(" -c {}", slot.name))
        .collect();
    let kubeconfig = args.kubeconfig.as_ref().map(|it| it.display().to_string());
    let access = [
        ("-n", &args.namespace),
        ("--context", &args.context),
        ("--kubeconfig", &kubeconfig),
    ];
    let access: String = access
        .iter()
        .filter_map(|(option, value)| Some(format!(" {option} {}", word(value.as_ref()?))))
        .collect();
    let first = had.first().and_then(|(_, profile)| *profile);
    let path = first.and_then(|profile| profile["localhostProfile"].as_str());
    let alike = had.iter().all(|(_, profile)| *profile == first);
    let command = match path {
        None if alike && first.is_none() => {
            format!("`seccast attach {reference}{access}{names} --detach`")
        }
        // Kubernetes takes spellings that `--profile` does not.
        Some(path) if alike && path.parse::<LocalhostProfile>().is_ok() => {
            format!(
                "`seccast attach {reference}{access}{names} --profile {}`",
                word(path)
            )
        }
        _ => format!("`kubectl rollout undo {reference}{access}`"),
    };
    // kubernetes issue 67250: a Pod that never gets ready blocks even the way back.
    if workload.reference.kind.name == "StatefulSet" {
        return format!(
            "{command}, then delete the Pod that waits: a StatefulSet does not replace a broken one by itself"
        );
    }
    command
}

/// As a shell takes it for one word.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@:=+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Verb};
    use clap::Parser as _;

    /// What is proposed to somebody who typed this, and whose containers had these profiles.
    fn check(typed: &str, had: &[(&str, Option<Value>)], expect: &str) {
        let words = typed.split_whitespace();
        let Verb::Attach(args) = Args::try_parse_from(words).unwrap().verb else {
            panic!("{typed}");
        };
        let containers = had.iter().map(
            |(name, profile)| json!({"name": name, "securityContext": {"seccompProfile": profile}}),
        );
        let containers: Vec<_> = containers.collect();
        let slot = |name: &str| Slot {
            init: false,
            name: name.to_owned(),
        };
        let plan = Plan {
            workload: Workload {
                reference: args.targets[0].parse().unwrap(),
                object: json!({"spec": {"template": {"spec": {"containers": containers}}}}),
            },
            change: had.iter().map(|(name, _)| (slot(name), None)).collect(),
            after: None,
        };
        assert_eq!(undo(&args, &plan), expect, "{typed}");
    }

    #[test]
    fn a_container_may_be_named_with_its_workload() {
        let web: Reference = "deploy/web".parse().unwrap();
        for typed in ["app", "web/app", "Deployment/web/app", "deploy/web/app"] {
            assert_eq!(named_in(typed, &web), Some("app"), "{typed}");
        }
        for typed in ["db/app", "sts/web/app", "deploy/db/app"] {
            assert_eq!(named_in(typed, &web), None, "{typed}");
        }
    }

    #[test]
    fn the_way_back_is_a_command() {
        let localhost = |path: &str| Some(json!({"type": "Localhost", "localhostProfile": path}));
        let new = "--profile new.json";
        check(
            &format!("seccast attach deploy/web {new}"),
            &[("app", None)],
            "`seccast attach deployment/web -c app --detach`",
        );
        check(
            &format!("seccast attach deploy/web -n shop {new}"),
            &[
                ("app", localhost("old.json")),
                ("log", localhost("old.json")),
            ],
            "`seccast attach deployment/web -n shop -c app -c log --profile old.json`",
        );
        check(
            &format!("seccast attach deploy/web --context prod --kubeconfig it's.yaml {new}"),
            &[("app", localhost("a b.json"))],
            r"`seccast attach deployment/web --context prod --kubeconfig 'it'\''s.yaml' -c app --profile 'a b.json'`",
        );
        check(
            &format!("seccast attach deploy/web {new}"),
            &[("app", localhost("./old.json"))],
            "`kubectl rollout undo deployment/web`",
        );
        let default = Some(json!({"type": "RuntimeDefault"}));
        check(
            &format!("seccast attach ds/agent -n shop --context user@prod {new}"),
            &[("app", default.clone())],
            "`kubectl rollout undo daemonset/agent -n shop --context user@prod`",
        );
        check(
            &format!("seccast attach ds/agent {new}"),
            &[("app", default)],
            "`kubectl rollout undo daemonset/agent`",
        );
        check(
            &format!("seccast attach sts/db {new}"),
            &[("app", localhost("a.json")), ("log", None)],
            "`kubectl rollout undo statefulset/db`, then delete the Pod that waits: a StatefulSet does not replace a broken one by itself",
        );
    }

    #[test]
    fn what_changed_since_the_rehearsal_is_not_overwritten() {
        let slot = Slot {
            init: false,
            name: "app".to_owned(),
        };
        let workload = |uid: &str, containers: Value| Workload {
            reference: "deploy/web".parse().unwrap(),
            object: json!({"metadata": {"uid": uid}, "spec": {"template": {"spec": {"containers": containers}}}}),
        };
        let app = |path: &str| json!({"name": "app", "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": path}}});
        let before = workload("u-1", json!([app("a.json"), {"name": "log"}]));
        let change = BTreeMap::from([(slot, None)]);
        let says = |now: Workload| unchanged(&before, &now, &change).map_err(|it| it.to_string());
        let mut log = app("log.json");
        log["name"] = json!("log");
        assert_eq!(says(workload("u-1", json!([app("a.json"), log]))), Ok(()));
        let changed = Err("container app was changed meanwhile; run it again".to_owned());
        assert_eq!(says(workload("u-1", json!([app("b.json")]))), changed);
        assert_eq!(says(workload("u-1", json!([{"name": "log"}]))), changed);
        assert_eq!(
            says(workload("u-2", json!([app("a.json")]))),
            Err("it was deleted and made again meanwhile; run it again".to_owned())
        );
    }

    #[test]
    fn what_the_server_made_of_it_is_compared() {
        let workload = |object: Value| Workload {
            reference: "deploy/web".parse().unwrap(),
            object: json!({"spec": {"template": {"spec": object}}}),
        };
        let profile = json!({"type": "Localhost", "localhostProfile": "a.json"});
        let slot = Slot {
            init: true,
            name: "b".to_owned(),
        };
        let change = BTreeMap::from([(slot, Some(profile.clone()))]);
        let with = json!({"name": "b", "securityContext": {"seccompProfile": profile}});
        let before = workload(json!({"initContainers": [{"name": "a"}, {"name": "b"}]}));
        let says = |after: Value| {
            accepted(&before, &workload(after), &change).map_err(|error| error.to_string())
        };
        assert_eq!(
            says(json!({"initContainers": [{"name": "a"}, with]})),
            Ok(())
        );
        let swapped = says(json!({"initContainers": [with, {"name": "a"}]})).unwrap_err();
        assert!(swapped.contains("changes the order"), "{swapped}");
        let kept = says(before.pod_spec().clone()).unwrap_err();
        assert!(
            kept.contains("container b has its profile (none)"),
            "{kept}"
        );
    }
}
