//! Workloads of a cluster.
//!
//! Everything is asked, and rehearsed by a dry run on the server, before anything is changed.

use super::{look_up, usage, warn};
use crate::{
    args::attach::AttachArgs,
    exit::Exit,
    output::{self, color::Tone, file::Destination, printable},
};
use anyhow::{Context as _, anyhow, bail};
use seccast_kube::{
    cluster::{Access, Cluster},
    pod::{self, LocalhostProfile, PathError},
    rollout::{self, Ended, Meaning, News, Trouble},
    workload::{Effect, MANAGER, Reference, Slot, Workload},
};
use seccast_model::Profile;
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// Attaches to each of `names`, all `KIND/NAME`.
pub(super) fn run(args: &AttachArgs, names: &[String]) -> anyhow::Result<Exit> {
    let references: Result<Vec<Reference>, _> = names.iter().map(|name| name.parse()).collect();
    let references = references.map_err(|error| usage(error.to_string()))?;
    if args.in_place {
        return Err(usage("--in-place is for files".to_owned()));
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
        plan.with_context(|| format!("cannot attach to {reference}"))
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
        let intent = workload.intent(&change);
        Some(workload.apply(cluster, &intent, args.force_conflicts, true)?)
    };
    if let Some(after) = &after {
        if [false, true]
            .iter()
            .any(|init| after.names(*init) != workload.names(*init))
        {
            bail!(
                "the API server would change the order of the containers, and init containers run in it; attach to the manifest instead"
            );
        }
        for (slot, profile) in &change {
            if after.profile(slot) != profile.as_ref() {
                bail!(kept_by_others(after, slot));
            }
        }
    }
    Ok(Plan {
        workload,
        change,
        after,
    })
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

/// `Localhost seccast/web.json`, `RuntimeDefault`.
fn described(profile: &Value) -> String {
    let kind = profile["type"].as_str().unwrap_or("of no type");
    match profile["localhostProfile"].as_str() {
        Some(path) => format!("{kind} {path}"),
        None => kind.to_owned(),
    }
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
        let yaml = |workload: &Workload| {
            serde_saphyr::to_string(workload.template()).map(|yaml| printable(&yaml))
        };
        let (before, after) = (yaml(workload)?, yaml(after)?);
        let diff = TextDiff::from_lines(&before, &after);
        let _ = writeln!(
            text,
            "--- {0}: its Pod template\n+++ {0}: its Pod template then",
            workload.reference
        );
        for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
            let _ = writeln!(text, "{}", hunk.header());
            for change in hunk.iter_changes() {
                let (sign, tone) = match change.tag() {
                    ChangeTag::Delete => ('-', Tone::Bad),
                    ChangeTag::Insert => ('+', Tone::Good),
                    ChangeTag::Equal => (' ', Tone::Plain),
                };
                let line = format!("{sign}{}", change.value().trim_end_matches('\n'));
                let _ = writeln!(text, "{}", tone.paint(&line));
            }
        }
    }
    Ok(text)
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
        let intent = workload.intent(change);
        let applied = workload.apply(cluster, &intent, args.force_conflicts, false);
        applied.with_context(|| format!("cannot attach to {reference}"))?;
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
        Ended::Not { what, troubles } => {
            let each: Vec<_> = troubles.iter().map(in_words).collect();
            let each = if each.is_empty() {
                String::new()
            } else {
                format!(": {}", each.join("; "))
            };
            let limit = humantime::format_duration(args.timeout);
            return Err(anyhow!(
                "{reference}: not rolled out within {limit}: {what}{each}; Pods that were ready before keep running; to go back: {}",
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
    let namespace = args
        .namespace
        .iter()
        .map(|namespace| format!(" -n {namespace}"));
    let namespace: String = namespace.collect();
    let first = had.first().and_then(|(_, profile)| *profile);
    let path = first.and_then(|profile| profile["localhostProfile"].as_str());
    let alike = had.iter().all(|(_, profile)| *profile == first);
    let command = match path {
        None if alike && first.is_none() => {
            format!("`seccast attach {reference}{namespace}{names} --detach`")
        }
        Some(path) if alike => {
            format!("`seccast attach {reference}{namespace}{names} --profile {path}`")
        }
        _ => format!("`kubectl rollout undo {reference}{namespace}`"),
    };
    // kubernetes issue 67250: a Pod that never gets ready blocks even the way back.
    if workload.reference.kind.name == "StatefulSet" {
        return format!(
            "{command}, then delete the Pod that waits: a StatefulSet does not replace a broken one by itself"
        );
    }
    command
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
        let default = Some(json!({"type": "RuntimeDefault"}));
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
}
