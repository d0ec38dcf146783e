//! What `change` refuses, with the words for it; and what it leaves as it is.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use seccast_kube::{
    manifest::{ManifestError, Outcome, Selection, Wanted, change},
    pod::{PathError, Warning, warnings},
};

fn attach(text: &str, names: &[&str]) -> Result<(String, Vec<Outcome>), ManifestError> {
    ask(
        text,
        names,
        None,
        &Wanted::Attached("seccast/web.json".to_owned()),
    )
}

fn ask(
    text: &str,
    names: &[&str],
    values_path: Option<&str>,
    wanted: &Wanted,
) -> Result<(String, Vec<Outcome>), ManifestError> {
    let selection = Selection {
        containers: names.iter().map(|name| (*name).to_owned()).collect(),
        values_path: values_path.map(str::to_owned),
    };
    let change = change(text.as_bytes(), &selection, wanted)?;
    let outcomes = change
        .places
        .into_iter()
        .map(|place| place.outcome)
        .collect();
    Ok((change.text, outcomes))
}

/// Refused, with these words; and as a mistake of what was typed or not.
fn refuses(text: &str, names: &[&str], usage: bool, words: &str) {
    let error = attach(text, names).unwrap_err();
    assert_eq!(error.to_string(), words, "{text}");
    assert_eq!(error.is_usage(), usage, "{words}");
}

fn pod(rest: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\n{rest}")
}

#[test]
fn aliases_on_the_way_are_refused_and_elsewhere_left_alone() {
    let alias = |what, line| {
        format!(
            "line {line}: `{what}` is an alias, and a change would have to be made where its anchor is, for all that use it: write the value out"
        )
    };
    let shared = |what, line| {
        format!(
            "line {line}: `{what}` has an anchor that is used elsewhere, where a change would be made, too: write the value out where it is used"
        )
    };
    let merged = |what, line| {
        format!(
            "line {line}: `{what}` comes from elsewhere by a merge key (`<<`): write it out in this map"
        )
    };
    let two = pod(
        "spec:\n  containers:\n  - name: a\n    securityContext: &sc\n      runAsUser: 1\n  - name: b\n    securityContext: *sc\n",
    );
    refuses(&two, &["a"], false, &shared("securityContext", 7));
    refuses(&two, &["b"], false, &alias("securityContext", 10));
    let item = pod("x: &c {name: a, image: i}\nspec:\n  containers:\n  - *c\n");
    refuses(&item, &[], false, &alias("item 0", 7));
    let list = pod("x: &c\n- name: a\nspec:\n  containers: *c\n");
    refuses(&list, &[], false, &alias("containers", 7));
    let spec = pod("spec: &s\n  containers:\n  - name: a\nother: *s\n");
    refuses(&spec, &[], false, &shared("spec", 4));
    let value = pod(
        "x: &p {type: RuntimeDefault}\nspec:\n  containers:\n  - name: a\n    securityContext:\n      seccompProfile: *p\n",
    );
    refuses(&value, &[], false, &alias("seccompProfile", 9));
    let merge = pod(
        "x: &b\n  securityContext: {runAsUser: 1}\nspec:\n  containers:\n  - <<: *b\n    name: a\n",
    );
    refuses(&merge, &[], false, &merged("securityContext", 8));
    // What is merged and has nothing to do with it is no obstacle.
    let other = pod("x: &b\n  image: i\nspec:\n  containers:\n  - <<: *b\n    name: a\n");
    assert!(attach(&other, &[]).unwrap().0.starts_with(&other));
    // Nor is an anchor that nothing names.
    let unused =
        pod("spec: &s\n  containers:\n  - name: a\n    securityContext: &sc\n      runAsUser: 1\n");
    assert!(attach(&unused, &[]).unwrap().0.starts_with(&unused));
}

#[test]
fn which_container_has_to_be_clear() {
    let two = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: a}, {name: b}]\n---\n\
               apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {containers: [{name: b}]}}}\n";
    let all = "Pod/p/a, Pod/p/b, Job/j/b";
    refuses(
        two,
        &[],
        true,
        &format!("it has several containers: say which with -c: {all}"),
    );
    refuses(
        two,
        &["b"],
        true,
        "`b` is in several workloads: say which with -c: Pod/p/b, Job/j/b",
    );
    refuses(
        two,
        &["c"],
        true,
        &format!("it has no container `c`: {all}"),
    );
    let (text, outcomes) = attach(two, &["j/b", "Job/j/b", "a"]).unwrap();
    assert_eq!(outcomes.len(), 2);
    assert_eq!(text.matches("Localhost").count(), 2);
    let one = pod("spec:\n  containers:\n  - name: a\n  - name: b\n");
    refuses(
        &one,
        &[],
        true,
        "Pod/p: it has several containers: say which with -c: a, b",
    );
    refuses(
        &one,
        &["aa"],
        true,
        "Pod/p: it has no container `aa` (did you mean a?): a, b",
    );
    let services = "services:\n  web: {image: w}\n  db: {image: d}\n";
    refuses(
        services,
        &[],
        true,
        "it has several containers: say which with -c: web, db",
    );
    refuses(
        services,
        &["wep"],
        true,
        "it has no service `wep` (did you mean web?): web, db",
    );
    let values =
        "a:\n  securityContext: {}\nb:\n  containerSecurityContext: {}\n  securityContext: {}\n";
    refuses(
        values,
        &[],
        true,
        "it seems to be Helm values: say with --values-path where the securityContext is; there are a.securityContext, \
         b.containerSecurityContext",
    );
}

#[test]
fn what_is_no_workload_is_told() {
    refuses(
        "Name: seccast\nState: running\n",
        &[],
        true,
        "there is neither a workload nor a service nor a securityContext in it: where it is Helm values, say with --values-path where the \
         chart reads the securityContext",
    );
    refuses(
        "apiVersion: v1\nkind: Service\n---\napiVersion: v1\nkind: ConfigMap\n",
        &[],
        false,
        "there is no workload in it, only Service, ConfigMap: a Pod, or an object with a Pod template, is needed",
    );
    refuses(
        "",
        &[],
        false,
        "there is no workload in it: a Pod, or an object with a Pod template, is needed",
    );
    refuses(
        "- op: add\n  path: /spec\n  value: 1\n",
        &[],
        false,
        "it is a list of patch operations (RFC 6902), which says where but not to what: write the patch as a part of the workload \
         (strategic merge), and attach to that",
    );
    let kustomization = "it is a kustomization, which names manifests and patches: attach to the manifest itself, or to a patch file that \
                         `patches: [{path: …}]` names";
    let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
    refuses(
        &format!("{head}patches:\n- path: p.yaml\n"),
        &[],
        false,
        kustomization,
    );
    refuses(
        &format!("{head}patches:\n- patch: |-\n    kind: Deployment\n"),
        &[],
        false,
        &format!(
            "{kustomization}; patches that stand in it as text are not changed, so put them into files of their own"
        ),
    );
    refuses(
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: {{ .Chart.Name }}\n    image: {{ .Values.image }}\n",
        &[],
        false,
        "line 5: it is a template of Helm (`{{`), and no YAML before Helm has rendered it: attach to the chart's values, or to what \
         `helm template` writes",
    );
    refuses(
        "kind: Pod\nspec:\n  {{- with .Values.x }}\n  a: 1\n  {{- end }}\n",
        &[],
        false,
        "line 3: it is a template of Helm (`{{`), and no YAML before Helm has rendered it: attach to the chart's values, or to what \
         `helm template` writes",
    );
    let error = ask(
        "# nothing\n",
        &[],
        Some("a.b"),
        &Wanted::Attached("p.json".to_owned()),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "line 1: `the document` is nothing, and has to be a map"
    );
    refuses(
        &pod("spec:\n  os: {name: windows}\n  containers:\n  - name: a\n"),
        &[],
        false,
        "Pod/p: it is for Windows (`os.name` or `nodeSelector`), where no Pod can have a seccompProfile",
    );
    refuses(
        &pod("spec:\n  containers:\n  - name: a\n    securityContext: none\n"),
        &[],
        false,
        "line 7: `securityContext` is a text or number, and has to be a map",
    );
    refuses(
        "services:\n  a:\n    security_opt: [seccomp=a, 'seccomp:b']\n",
        &[],
        false,
        "line 3: a second seccomp option in the same list: leave one",
    );
    refuses(
        "kind: Pod\r\nspec: {}\r\rx: 1",
        &[],
        false,
        "line 2: a carriage return ends a line by itself, and YAML's readers differ on it: write LF or CRLF",
    );
    let error = change(b"a: \xff", &Selection::default(), &Wanted::Detached(None)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it is not UTF-8 text: `iconv -t UTF-8` makes it so"
    );
    let deep = format!("a: {}{}", "[".repeat(1000), "]".repeat(1000));
    assert!(attach(&deep, &[]).is_err());
}

#[test]
fn only_profiles_of_files_are_taken_out() {
    let with = |profile: &str| {
        pod(&format!(
            "spec:\n  containers:\n  - name: a\n    securityContext:\n      seccompProfile: {profile}\n"
        ))
    };
    let detach = |text: &str, name: Option<&str>| {
        ask(text, &[], None, &Wanted::Detached(name.map(str::to_owned))).unwrap()
    };
    let without = pod("spec:\n  containers:\n  - name: a\n");
    let local = with("{type: Localhost, localhostProfile: old.json}");
    let emptied = Outcome::Detached {
        emptied: Some("securityContext".to_owned()),
        comments: Vec::new(),
    };
    assert_eq!(
        detach(&local, None),
        (without.clone(), vec![emptied.clone()])
    );
    assert_eq!(
        detach(&local, Some("old.json")),
        (without.clone(), vec![emptied])
    );
    let other = Outcome::Other("Localhost old.json".to_owned());
    assert_eq!(
        detach(&local, Some("new.json")),
        (local.clone(), vec![other])
    );
    let default = with("{type: RuntimeDefault}");
    assert_eq!(
        detach(&default, None),
        (
            default.clone(),
            vec![Outcome::Other("RuntimeDefault".to_owned())]
        )
    );
    assert_eq!(detach(&without, None), (without, vec![Outcome::Already]));
    // They take out what a base or a chart has, and are no profile of a file.
    for nothing in ["null", "", "~"] {
        let null = with(nothing);
        assert_eq!(detach(&null, None), (null, vec![Outcome::Already]));
    }
    let directive = with("{$patch: delete}");
    let other = Outcome::Other("a seccompProfile without a type".to_owned());
    assert_eq!(detach(&directive, None), (directive, vec![other]));
    // What is emptied is this container's, whatever else is called so.
    let flow = pod(
        "spec:\n  containers:\n  - name: a\n    securityContext: {seccompProfile: {type: Localhost, localhostProfile: securityContext}}\n",
    );
    let empty = pod("spec:\n  containers:\n  - name: a\n    securityContext: {}\n");
    let emptied = None;
    assert_eq!(
        detach(&flow, None),
        (
            empty,
            vec![Outcome::Detached {
                emptied,
                comments: Vec::new()
            }]
        )
    );

    let (text, outcomes) = attach(&local, &[]).unwrap();
    assert_eq!(
        text,
        with("{type: Localhost, localhostProfile: seccast/web.json}")
    );
    let instead_of = Some("Localhost old.json".to_owned());
    assert_eq!(outcomes, [Outcome::Attached { instead_of }]);
}

#[test]
fn compose_keeps_other_options_and_the_spelling() {
    let file =
        |options: &str| format!("services:\n  web:\n    image: web\n    security_opt:{options}\n");
    let attached = |options: &str| attach(&file(options), &[]).unwrap().0;
    assert_eq!(
        attached(" [\"seccomp:unconfined\"]"),
        file(" [\"seccomp:seccast/web.json\"]")
    );
    assert_eq!(attached(""), file("\n      - seccomp=seccast/web.json"));
    assert_eq!(attached(" []"), file(" [seccomp=seccast/web.json]"));
    assert_eq!(
        attached("\n    - label=disable # why\n    - 'seccomp=x.json'"),
        file("\n    - label=disable # why\n    - 'seccomp=seccast/web.json'")
    );
    let detached = |options: &str| ask(&file(options), &[], None, &Wanted::Detached(None)).unwrap();
    assert_eq!(
        detached(" [\"seccomp:unconfined\"]").0,
        file(" [\"seccomp:unconfined\"]")
    );
    assert_eq!(
        detached(" [a=b, seccomp=x.json, c=d]").0,
        file(" [a=b, c=d]")
    );
    assert_eq!(
        detached("\n    - seccomp=x.json\n    - a=b").0,
        file("\n    - a=b")
    );
    // It is the only one: the list goes.
    assert_eq!(
        detached("\n    - seccomp=x.json").0,
        "services:\n  web:\n    image: web\n"
    );
}

#[test]
fn paths_in_values_are_made_and_taken_out() {
    let values = "image: web\ncontroller:\n  replicas: 1\n";
    let path = Some("controller.security.context");
    let wanted = Wanted::Attached("seccast/web.json".to_owned());
    let (text, _) = ask(values, &[], path, &wanted).unwrap();
    assert_eq!(
        text,
        "image: web\ncontroller:\n  replicas: 1\n  security:\n    context:\n      seccompProfile:\n        type: Localhost\n        \
         localhostProfile: seccast/web.json\n"
    );
    assert_eq!(
        ask(&text, &[], path, &Wanted::Detached(None)).unwrap().0,
        values
    );
    // Nothing else was in it: an empty map is left.
    let (text, _) = ask("a :", &[], Some("a.b"), &wanted).unwrap();
    assert_eq!(
        text,
        "a :\n  b:\n    seccompProfile:\n      type: Localhost\n      localhostProfile: seccast/web.json"
    );
    let (text, _) = ask(&text, &[], Some("a.b"), &Wanted::Detached(None)).unwrap();
    assert_eq!(text, "{}");
    for text in [&*text, ""] {
        let (after, outcomes) = ask(text, &[], Some("a.b"), &Wanted::Detached(None)).unwrap();
        assert_eq!((&*after, &outcomes[..]), (text, &[Outcome::Already][..]));
    }
    let several = "a:\n---\n# nothing\n";
    let (text, _) = ask(several, &[], Some("a.b"), &wanted).unwrap();
    let (text, _) = ask(&text, &[], Some("a.b"), &Wanted::Detached(None)).unwrap();
    assert_eq!(text, "{}\n---\n# nothing\n");
    let error = ask(values, &[], Some("a..b"), &wanted).unwrap_err();
    assert_eq!(error, ManifestError::ValuesPath("a..b".to_owned()));
    let error = ask(&pod("spec: {}"), &[], path, &wanted).unwrap_err();
    assert_eq!(error, ManifestError::NotValues("a manifest"));
}

#[test]
fn a_context_found_without_a_path_stays_and_is_found_again() {
    let wanted = Wanted::Attached("seccast/web.json".to_owned());
    for text in [
        "# web\na:\n securityContext:",
        "image: web\na:\n  securityContext: {}\n",
        "securityContext:\n",
    ] {
        let (with, _) = ask(text, &[], None, &wanted).unwrap();
        let (without, outcomes) = ask(&with, &[], None, &Wanted::Detached(None)).unwrap();
        let taken_out = Outcome::Detached {
            emptied: None,
            comments: Vec::new(),
        };
        assert_eq!(outcomes, [taken_out], "{text}");
        let braces = text.replace("securityContext:", "securityContext: {}");
        let braces = braces.replace("{} {}", "{}");
        assert_eq!(without.trim_end(), braces.trim_end());
        assert_eq!(
            ask(&without, &[], None, &Wanted::Detached(None)).unwrap(),
            (without.clone(), vec![Outcome::Already])
        );
    }
}

#[test]
fn what_a_file_is_called_nowhere_is_refused() {
    for (path, error) in [("", PathError::Empty), ("a\nb", PathError::Control)] {
        let wanted = Wanted::Attached(path.to_owned());
        for file in [
            pod("spec:\n  containers:\n  - name: a\n"),
            "services:\n  a: {image: i}\n".to_owned(),
        ] {
            let is = ask(&file, &[], None, &wanted).unwrap_err();
            assert_eq!(is, ManifestError::Path(error));
        }
    }
    // Only a kubelet's path is below its folder.
    let compose = "services:\n  a:\n    image: i\n";
    for path in ["/etc/web.json", "../web.json"] {
        let wanted = Wanted::Attached(path.to_owned());
        let (text, _) = ask(compose, &[], None, &wanted).unwrap();
        assert_eq!(
            text,
            format!("{compose}    security_opt:\n      - seccomp={path}\n")
        );
    }
}

#[test]
fn paths_that_need_quotes_get_them() {
    let one = pod("spec:\n  containers:\n  - name: a\n");
    for (path, written) in [
        ("a b/ü: c.json", "'a b/ü: c.json'"),
        ("it's.json", "'it''s.json'"),
        ("1.5", "'1.5'"),
        ("true", "'true'"),
        ("#x", "'#x'"),
        ("a/b-c_d.json", "a/b-c_d.json"),
    ] {
        let (text, _) = ask(&one, &[], None, &Wanted::Attached(path.to_owned())).unwrap();
        assert!(
            text.ends_with(&format!("localhostProfile: {written}\n")),
            "{text}"
        );
    }
}

/// sigs.k8s.io/yaml reads `yes` as true, and so does this.
#[test]
fn what_kubernetes_takes_for_true_is_warned_of() {
    let context = |text: &str| {
        let text = pod(&format!(
            "spec:\n  containers:\n  - name: a\n    securityContext: {text}\n"
        ));
        let wanted = Wanted::Attached("seccast/web.json".to_owned());
        let change = change(text.as_bytes(), &Selection::default(), &wanted).unwrap();
        let (spec, container) = change.places[0].pod.clone().unwrap();
        warnings(&spec, &container, None)
    };
    for word in ["y", "yes", "Yes", "YES", "on", "On", "ON", "true"] {
        let privileged = context(&format!("{{privileged: {word}}}"));
        assert_eq!(privileged, [Warning::Privileged], "{word}");
    }
    for word in ["n", "no", "No", "NO", "off", "Off", "OFF", "false"] {
        let safe = context(&format!("{{allowPrivilegeEscalation: {word}}}"));
        assert_eq!(safe, [], "{word}");
    }
    // In quotes it is a text, which the API server refuses.
    assert_ne!(context("{privileged: 'yes'}"), [Warning::Privileged]);
}

/// JSON's halves of characters may be written in any case.
#[test]
fn characters_in_two_halves_are_left_as_they_are() {
    for halves in [
        "\\ud83d\\ude00",
        "\\uD83D\\uDE00",
        "\\uD83d\\uDe00",
        "\\uda00\\udc00",
        "\\uDa00\\udC00",
    ] {
        let pod = format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "p", "note": "{halves}"}}, "spec": {{"containers": [{{"name": "a"}}]}}}}"#
        );
        let (text, _) = attach(&pod, &[]).unwrap();
        assert!(
            text.contains(halves) && text.contains("Localhost"),
            "{text}"
        );
    }
}

/// A comment belongs to whoever wrote it: it stays where it was, or is named when what it stood in goes.
#[test]
fn comments_stay_with_what_they_are_about() {
    let profile = "{type: Localhost, localhostProfile: web.json}";
    let of = |context: &str| {
        pod(&format!(
            "spec:\n  containers:\n  - name: a\n    securityContext: {context}\n"
        ))
    };
    let detached = |text: &str| {
        let (text, outcomes) = ask(text, &[], None, &Wanted::Detached(None)).unwrap();
        let [Outcome::Detached { comments, .. }] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        (text, comments.clone())
    };
    let none = Vec::<String>::new();
    // In braces, one entry a line: attached behind the comment of the last entry, and out again.
    for comma in ["", ","] {
        let before = of(&format!(
            "{{\n      runAsUser: 1, # user\n      runAsGroup: 2{comma} # group\n    }}"
        ));
        let (after, _) = ask(&before, &[], None, &Wanted::Attached("web.json".to_owned())).unwrap();
        assert!(
            after.contains("runAsGroup: 2, # group\n      seccompProfile: {"),
            "{after}"
        );
        assert_eq!(detached(&after), (before, none.clone()));
    }
    // Written by hand, at each place.
    for (context, left) in [
        (
            format!(
                "{{\n      runAsUser: 1, # user\n      # about the profile\n      seccompProfile: {profile}, # p\n    }}"
            ),
            "{\n      runAsUser: 1, # user\n      # about the profile\n       # p\n    }",
        ),
        (
            format!(
                "{{\n      seccompProfile: {profile},\n      # about the user\n      runAsUser: 1\n    }}"
            ),
            "{\n      \n      # about the user\n      runAsUser: 1\n    }",
        ),
        (
            format!(
                "{{\n      runAsUser: 1, # user\n      seccompProfile: {profile},\n      runAsGroup: 2 # group\n    }}"
            ),
            "{\n      runAsUser: 1, # user\n      runAsGroup: 2 # group\n    }",
        ),
        // Commas in comments separate nothing.
        (
            format!(
                "{{\n      runAsUser: 1 # user, one\n      , seccompProfile: {profile}\n    }}"
            ),
            "{\n      runAsUser: 1 # user, one\n    }",
        ),
        (
            format!("{{\n      seccompProfile: {profile} # p, q\n      , runAsUser: 1\n    }}"),
            "{\n       # p, q\n       runAsUser: 1\n    }",
        ),
    ] {
        assert_eq!(detached(&of(&context)), (of(left), none.clone()));
    }
    // Behind the dash of a list's item.
    let first = pod(&format!(
        "spec:\n  containers:\n  - securityContext:\n      seccompProfile: {profile}\n    # about the name\n    name: a\n"
    ));
    let left = pod("spec:\n  containers:\n  - # about the name\n    name: a\n");
    assert_eq!(detached(&first), (left, none.clone()));
    // What it stands in goes.
    let within = pod(&format!(
        "spec:\n  containers:\n  - name: a # '#' is no comment: \"# b\"\n    securityContext:  # c\n      # d\n      seccompProfile: {profile}\n    args: [\"# no\"]\n"
    ));
    let left = pod(
        "spec:\n  containers:\n  - name: a # '#' is no comment: \"# b\"\n    args: [\"# no\"]\n",
    );
    let comments = ["# c", "# d"].map(str::to_owned).to_vec();
    assert_eq!(detached(&within), (left, comments));
}

#[test]
fn a_service_or_container_of_which_nothing_is_left_is_an_empty_map() {
    let detach = |text: &str| ask(text, &[], None, &Wanted::Detached(None)).unwrap().0;
    assert_eq!(
        detach("services:\n  web:\n    security_opt:\n      - seccomp=./all.json\n# end\n"),
        "services:\n  web: {}\n# end\n"
    );
    let knative = |container: &str| {
        format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n  template:\n    spec:\n      containers:\n        - {container}\n"
        )
    };
    let context = "securityContext:\n            seccompProfile:\n              type: Localhost\n              localhostProfile: web.json";
    assert_eq!(detach(&knative(context)), knative("{}"));
}

#[test]
fn what_only_a_pod_says_is_no_container_s_context() {
    let attach = |text: &str, path: Option<&str>| {
        ask(text, &[], path, &Wanted::Attached("web.json".to_owned()))
    };
    let of_pod = "prometheus:\n  securityContext: {runAsGroup: 2000, fsGroup: 2000}\n";
    assert_eq!(
        attach(of_pod, None).unwrap_err(),
        ManifestError::Values(Vec::new())
    );
    let path = "prometheus.securityContext.seccompProfile";
    assert_eq!(
        attach(of_pod, Some(path)).unwrap_err(),
        ManifestError::ValuesPath(path.to_owned())
    );
    assert_eq!(
        attach("services:\n  web:\n    image: a\n", Some("a.b")).unwrap_err(),
        ManifestError::NotValues("a compose file")
    );
    assert_eq!(
        attach("services: {}\n", None).unwrap_err(),
        ManifestError::NoService
    );
    let windows =
        pod("spec:\n  nodeSelector: {kubernetes.io/os: windows}\n  containers:\n  - name: a\n");
    let refused = attach(&windows, None).unwrap_err();
    assert!(
        matches!(refused, ManifestError::Windows { .. }),
        "{refused}"
    );
    for path in [
        "./web.json",
        "seccast//web.json",
        "seccast/./web.json",
        "seccast/",
    ] {
        assert_eq!(
            path.parse::<seccast_kube::pod::LocalhostProfile>(),
            Err(PathError::Spelling)
        );
    }
}
