//! Commands that start containers: which engine, through which client, what of it starts what.

use super::{Client, Kind, wrapper};
use crate::runtime::line::base;
use std::path::{Path, PathBuf};

/// What such a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Makes one container and starts it.
    Run,
    /// Starts containers that exist.
    Start,
    /// Starts the services of a compose project.
    Compose,
    /// Starts the pods of a Kubernetes file.
    Kube,
    /// Makes a container and does not start it.
    Create,
    /// Starts a process in a container that runs.
    Exec,
}

impl Verb {
    fn is_switch(self, word: &str) -> bool {
        if word.starts_with("--") {
            return SWITCHES.contains(&word)
                || (self == Self::Start && word == "--attach")
                || (self == Self::Exec && EXEC_SWITCHES.contains(&word));
        }
        let letters = match self {
            Self::Run | Self::Create => "dhiPqt",
            Self::Start => "adhil",
            Self::Compose => "dhTV",
            Self::Kube => "hq",
            Self::Exec => "dhilTt",
        };
        // `-it` is two switches; `-p80:80` and `-eA=B` carry their value.
        word.chars().skip(1).all(|c| letters.contains(c))
    }
}

/// A command line that starts containers, with its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The engine's client with its own options, as the command has them.
    pub client: Client,
    /// What it does.
    pub verb: Verb,
    /// The whole command.
    words: Vec<String>,
    /// Its verb is of pods.
    pod: bool,
    /// It is compose's.
    of_compose: bool,
    /// Where the client is: what executes it may stand in front.
    program: usize,
    /// The user as whom it runs, where what stands in front says so.
    user: Option<String>,
    /// Where the client's own options begin.
    globals: usize,
    /// Where compose's own options are.
    compose: std::ops::Range<usize>,
    /// Where the options of the verb begin.
    options: usize,
    /// Where the first word that is no option is.
    positional: usize,
}

/// What the `run` of an engine's client takes as one word. All else takes a value: an unknown option that takes none
/// would only hide what comes after it.
const SWITCHES: &[&str] = &[
    // docker, podman, nerdctl
    "--detach",
    "--disable-content-trust",
    "--env-host",
    "--help",
    "--http-proxy",
    "--init",
    "--interactive",
    "--no-healthcheck",
    "--no-hostname",
    "--no-hosts",
    "--oom-kill-disable",
    "--passwd",
    "--privileged",
    "--publish-all",
    "--quiet",
    "--read-only",
    "--read-only-tmpfs",
    "--replace",
    "--rm",
    "--rmi",
    "--rootfs",
    "--sig-proxy",
    "--tls-verify",
    "--tty",
    "--unsetenv-all",
    "--use-api-socket",
    // start, restart
    "--all",
    "--latest",
    "--running",
    // ctr
    "--allow-new-privs",
    "--cni",
    "--isolated",
    "--net-host",
    "--no-pivot",
    "--null-io",
    "--runc-systemd-cgroup",
    "--seccomp",
    // runc, crun
    "--keep",
    "--no-new-keyring",
    "--no-subreaper",
    // compose, kube
    "--abort-on-container-exit",
    "--always-recreate-deps",
    "--attach-dependencies",
    "--build",
    "--down",
    "--force-recreate",
    "--no-attach-logs",
    "--no-build",
    "--no-color",
    "--no-deps",
    "--no-log-prefix",
    "--no-recreate",
    "--no-start",
    "--remove-orphans",
    "--renew-anon-volumes",
    "--start",
    "--timestamps",
    "--use-aliases",
    "--service-ports",
    "--wait",
    "--watch",
];

/// What the `exec` of a client takes as one word, besides those of `run`.
const EXEC_SWITCHES: &[&str] = &["--ignore-paused", "--no-new-privs", "--no-tty"];

/// Options of a client itself, before its verb, that take no value.
const GLOBAL_SWITCHES: &[&str] = &[
    "--debug",
    "-D",
    "--tls",
    "--tlsverify",
    "--remote",
    "-r",
    "--syslog",
    "--transient-store",
    "--systemd-cgroup",
    "--all-resources",
    "--compatibility",
    "--dry-run",
    "--verbose",
    "--help",
    "-h",
    "--version",
    "-v",
    "--insecure-registry",
    "--experimental",
];

impl Start {
    /// Reads a command; `None` where it starts no container through an engine that is known.
    ///
    /// Programs that execute the command in their words, such as `sudo` and `timeout`, are understood in front of it.
    #[must_use]
    pub fn parse(words: &[String]) -> Option<Self> {
        let front = wrapper::front(words)?;
        let mut at = front.length;
        let (kind, composes) = match base(&words[at]) {
            "docker" => (Kind::Docker, false),
            "podman" | "podman-remote" => (Kind::Podman, false),
            "nerdctl" => (Kind::Nerdctl, false),
            "ctr" => (Kind::Containerd, false),
            "runc" => (Kind::Runc, false),
            "crun" => (Kind::Crun, false),
            "docker-compose" => (Kind::Docker, true),
            "podman-compose" => (Kind::Podman, true),
            _ => return None,
        };
        let program = at;
        at = skip_options(words, at + 1, |word| GLOBAL_SWITCHES.contains(&word));
        let globals = at;
        let mut verb = words.get(at)?.as_str();
        let mut compose = composes;
        let mut compose_options = program + 1..at;
        if !composes && verb == "compose" && kind != Kind::Containerd {
            compose = true;
            compose_options.start = at + 1;
            at = skip_options(words, at + 1, |word| GLOBAL_SWITCHES.contains(&word));
            compose_options.end = at;
            verb = words.get(at)?;
        }
        let group = matches!(
            verb,
            "container" | "containers" | "c" | "task" | "tasks" | "t" | "pod" | "kube" | "play"
        );
        let of = if group && !compose {
            at += 1;
            std::mem::replace(&mut verb, words.get(at)?)
        } else {
            ""
        };
        let verb = match (compose, of, verb) {
            (true, _, "up" | "start" | "run" | "restart") => Verb::Compose,
            (true, _, "exec") => Verb::Exec,
            (false, "kube", "play") | (false, "play", "kube") => Verb::Kube,
            (false, "pod", "start" | "restart") => Verb::Start,
            (false, "" | "container" | "containers" | "c", "run") => Verb::Run,
            (false, "" | "container", "restore") if matches!(kind, Kind::Runc | Kind::Crun) => {
                Verb::Run
            }
            (false, "" | "container" | "task" | "tasks" | "t", "start" | "restart") => Verb::Start,
            (false, "" | "container" | "containers" | "c", "create") => Verb::Create,
            (false, "" | "container" | "task" | "tasks" | "t", "exec") => Verb::Exec,
            _ => return None,
        };
        let options = at + 1;
        let client = if composes {
            Client::named(kind)
        } else {
            Client::new(kind, words[program..globals].to_vec())
        };
        Some(Self {
            client: client.through(front.kept),
            verb,
            pod: of == "pod",
            of_compose: compose,
            program,
            user: front.user,
            globals: program + 1,
            compose: compose_options,
            options,
            positional: skip_options(words, options, |word| verb.is_switch(word)),
            words: words.to_vec(),
        })
    }

    /// The engine.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.client.kind()
    }

    /// The command as it is to be executed.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The value of an option of the verb, the last one that was given.
    #[must_use]
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        self.options_with(names).pop()
    }

    /// The values of an option that may be repeated.
    #[must_use]
    pub fn options_with(&self, names: &[&str]) -> Vec<&str> {
        let mut values = Vec::new();
        let mut at = self.options;
        while at < self.positional {
            let word = self.words[at].as_str();
            let next = next_word(&self.words, at, |word| self.verb.is_switch(word));
            let (name, joined) = split_option(word);
            if names.contains(&name) {
                let apart = || (next == at + 2).then(|| self.words.get(at + 1)).flatten();
                values.extend(joined.or_else(|| apart().map(String::as_str)));
            }
            at = next;
        }
        values
    }

    /// Is a switch of the verb given, by its long name or its letter?
    #[must_use]
    pub fn switch(&self, name: &str, letter: Option<char>) -> bool {
        self.words[self.options..self.positional]
            .iter()
            .any(|word| {
                let long = split_option(word);
                let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
                (long.0 == name && long.1.is_none_or(|value| value == "true"))
                    || letter.is_some_and(|letter| {
                        short.is_some_and(|rest| self.verb.is_switch(word) && rest.contains(letter))
                    })
            })
    }

    /// What is no option: the image, or the names of containers. For `run` what the container executes follows it.
    #[must_use]
    pub fn positionals(&self) -> &[String] {
        &self.words[self.positional.min(self.words.len())..]
    }

    /// Puts options before all others of the verb.
    pub fn add(&mut self, options: &[&str]) {
        let added = options.iter().map(|&option| option.to_owned());
        self.words.splice(self.options..self.options, added);
        self.positional += options.len();
    }

    /// Puts options of the client's own before all others.
    pub fn add_global(&mut self, options: &[&str]) {
        let added = options.iter().map(|&option| option.to_owned());
        self.words.splice(self.globals..self.globals, added);
        let shift = options.len();
        self.options += shift;
        self.positional += shift;
        self.compose = self.compose.start + shift..self.compose.end + shift;
    }

    /// The compose command up to its verb, to be asked: without what bounds the run of the command alone.
    #[must_use]
    pub fn compose(&self) -> Vec<String> {
        let own = &self.words[self.program..self.compose.end];
        [self.client.front(), own].concat()
    }

    /// The user as whom the client runs, where what stands in front of it names one: a name, an id, or `#` and an id.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// With [`Verb::Exec`]: words of a shell that give the id or name of the container that is entered.
    #[must_use]
    pub fn entered(&self) -> Option<String> {
        let name = self.positionals().first()?;
        if self.of_compose {
            let compose = self.compose().join(" ");
            return Some(format!("\"$({compose} ps -q {name})\""));
        }
        Some(name.clone())
    }

    /// The files that compose is told to read.
    #[must_use]
    pub fn compose_files(&self) -> Vec<&str> {
        let mut files = Vec::new();
        let mut at = self.compose.start;
        while at < self.compose.end {
            let next = next_word(&self.words, at, |word| GLOBAL_SWITCHES.contains(&word));
            let (name, joined) = split_option(&self.words[at]);
            if ["-f", "--file"].contains(&name) {
                files.extend(joined.or_else(|| self.words.get(at + 1).map(String::as_str)));
            }
            at = next;
        }
        files
    }

    /// Tells compose to read these files as well.
    pub fn add_compose_files(&mut self, files: &[String]) {
        let words = files
            .iter()
            .flat_map(|file| ["-f".to_owned(), file.clone()]);
        self.words.splice(self.compose.end..self.compose.end, words);
        let shift = 2 * files.len();
        self.compose.end += shift;
        self.options += shift;
        self.positional += shift;
    }

    /// Replaces an option's value by another, or adds it.
    pub fn set(&mut self, name: &str, letter: &str, value: &str) {
        let mut at = self.options;
        while at < self.positional {
            let next = next_word(&self.words, at, |word| self.verb.is_switch(word));
            if [name, letter].contains(&split_option(&self.words[at]).0) {
                self.words.drain(at..next);
                self.positional -= next - at;
            } else {
                at = next;
            }
        }
        self.add(&[name, value]);
    }

    /// May it start more than one container?
    #[must_use]
    pub fn starts_many(&self) -> bool {
        match self.verb {
            Verb::Run | Verb::Create | Verb::Exec => false,
            // A pod has more than one.
            Verb::Start => self.id().is_none() && (self.pod || self.positionals().len() != 1),
            Verb::Compose | Verb::Kube => true,
        }
    }

    /// Does it make compose's services anew, so that they may be told something?
    #[must_use]
    pub fn makes_services(&self) -> bool {
        let verb = self.words[self.options - 1].as_str();
        self.verb == Verb::Compose && matches!(verb, "up" | "run")
    }

    /// The id that the command gives to its container, where the engine takes it from there.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match (self.kind(), self.verb) {
            (_, Verb::Exec) => None,
            (Kind::Runc | Kind::Crun, _) => self.words.last().map(String::as_str),
            // IMAGE ID, or --config FILE ID.
            (Kind::Containerd, Verb::Run) => {
                let first = usize::from(self.option(&["--config"]).is_none());
                self.positionals().get(first).map(String::as_str)
            }
            (Kind::Containerd, _) => self.positionals().first().map(String::as_str),
            _ => None,
        }
    }

    /// The image that it names.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        let has_one = self.verb == Verb::Run
            && !matches!(self.kind(), Kind::Runc | Kind::Crun)
            && self.option(&["--config"]).is_none()
            && !self.switch("--rootfs", None);
        self.positionals()
            .first()
            .map(String::as_str)
            .filter(|_| has_one)
    }

    /// Does it say itself which filter its container gets, or that it gets none?
    #[must_use]
    pub fn names_a_filter(&self) -> bool {
        match self.kind() {
            Kind::Containerd => {
                self.switch("--seccomp", None) || self.option(&["--seccomp-profile"]).is_some()
            }
            _ => {
                self.options_with(&["--security-opt"])
                    .iter()
                    .any(|value| value.starts_with("seccomp"))
                    || self.switch("--privileged", None)
            }
        }
    }

    /// The low-level runtime that it asks for.
    #[must_use]
    pub fn runtime(&self) -> Option<&str> {
        self.option(&["--runtime"])
            .or_else(|| self.client.option(&["--runtime"]))
    }

    /// The bundle folder of runc's and crun's `run`.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.option(&["--bundle", "-b"])
            .map_or_else(|| PathBuf::from("."), |bundle| Path::new(bundle).to_owned())
    }
}

/// An option's name, and its value where that is joined to it.
fn split_option(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((name, value)) if name.starts_with('-') => (name, Some(value)),
        _ => (word, None),
    }
}

/// Where the word after an option and its value is.
fn next_word(words: &[String], at: usize, is_switch: impl Fn(&str) -> bool) -> usize {
    let word = words[at].as_str();
    let short = !word.starts_with("--");
    let carries = word.contains('=')
        || is_switch(word)
        // A short option with something behind its letter: `-p80:80`.
        || (short && word.len() > 2);
    at + if carries { 1 } else { 2 }
}

/// Where the first word from `at` on is that is neither an option nor its value.
fn skip_options(words: &[String], mut at: usize, is_switch: impl Fn(&str) -> bool) -> usize {
    while let Some(word) = words.get(at) {
        if word == "--" {
            return at + 1;
        }
        if !word.starts_with('-') || word.len() == 1 {
            break;
        }
        at = next_word(words, at, &is_switch);
    }
    at.min(words.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Start> {
        Start::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn commands_that_start_containers_are_known() {
        let check = |line: &str, expected: Option<(Kind, Verb, &str)>| {
            let found = parse(line);
            let found = found.as_ref().map(|found| {
                let client = found.client.words().join(" ");
                (found.kind(), found.verb, client)
            });
            let expected = expected.map(|(kind, verb, client)| (kind, verb, client.to_owned()));
            assert_eq!(found, expected, "{line}");
        };
        let run = Verb::Run;
        check("docker run web", Some((Kind::Docker, run, "docker")));
        check(
            "/usr/bin/docker -H unix:///s --debug container run -it --rm web sh",
            Some((Kind::Docker, run, "/usr/bin/docker -H unix:///s --debug")),
        );
        check(
            "sudo -E A=b podman --root /r run web",
            Some((Kind::Podman, run, "sudo -E A=b podman --root /r")),
        );
        check(
            "podman --remote start web",
            Some((Kind::Podman, Verb::Start, "podman --remote")),
        );
        check(
            "podman kube play web.yaml",
            Some((Kind::Podman, Verb::Kube, "podman")),
        );
        check(
            "podman play kube web.yaml",
            Some((Kind::Podman, Verb::Kube, "podman")),
        );
        check(
            "docker compose -f a.yaml up -d",
            Some((Kind::Docker, Verb::Compose, "docker")),
        );
        check(
            "docker-compose -p x up",
            Some((Kind::Docker, Verb::Compose, "docker")),
        );
        check(
            "ctr -n k8s.io run image c1",
            Some((Kind::Containerd, run, "ctr -n k8s.io")),
        );
        check(
            "ctr t start c1",
            Some((Kind::Containerd, Verb::Start, "ctr")),
        );
        check(
            "runc --root /r run -b /b c1",
            Some((Kind::Runc, run, "runc --root /r")),
        );
        check("crun create c1", Some((Kind::Crun, Verb::Create, "crun")));
        check(
            "timeout -k 5 20 sudo -u root docker run web",
            Some((Kind::Docker, run, "sudo -u root docker")),
        );
        check(
            "nice -n 5 docker -H unix:///s run web",
            Some((Kind::Docker, run, "docker -H unix:///s")),
        );
        check(
            "docker exec -it -u 0 web sh",
            Some((Kind::Docker, Verb::Exec, "docker")),
        );
        for other in [
            "docker ps",
            "make up",
            "sh -c docker",
            "ls run",
            "docker",
            "podman images",
            "sudo",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn an_exec_names_the_container_that_it_enters() {
        let entered = |line: &str| parse(line)?.entered();
        for (line, expected) in [
            ("docker exec -it -u 0 -e A=b web sh -c x", "web"),
            ("docker -H unix:///s container exec web sh", "web"),
            ("timeout -k 1 5 podman exec -w / web sh", "web"),
            ("runc exec -t web sh", "web"),
            ("ctr task exec --exec-id e web sh", "web"),
            (
                "docker compose -p x exec -T web sh",
                "\"$(docker compose -p x ps -q web)\"",
            ),
            (
                "timeout 5 docker-compose exec web sh",
                "\"$(docker-compose ps -q web)\"",
            ),
        ] {
            assert_eq!(entered(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn options_end_at_the_image() {
        let start = parse("docker run -it --name web -p80:80 --security-opt=no-new-privileges -e A=b img --privileged --rm")
            .expect("a start");
        assert_eq!(start.option(&["--name"]), Some("web"));
        assert_eq!(
            start.options_with(&["--security-opt"]),
            ["no-new-privileges"]
        );
        assert!(!start.switch("--privileged", None) && !start.switch("--rm", None));
        assert!(start.switch("--tty", Some('t')) && !start.switch("--detach", Some('d')));
        assert_eq!(start.image(), Some("img"));
        assert!(!start.names_a_filter());
        let start =
            parse("docker run -a stdin --security-opt seccomp=unconfined img").expect("a start");
        assert!(start.names_a_filter());
        assert_eq!(
            parse("docker run --privileged=false img").map(|start| start.names_a_filter()),
            Some(false)
        );
    }

    #[test]
    fn ids_come_from_the_command_where_the_engine_takes_them_from_there() {
        let id = |line: &str| parse(line)?.id().map(str::to_owned);
        assert_eq!(id("ctr run --rm -t img c1 sh").as_deref(), Some("c1"));
        assert_eq!(id("ctr run --config f c1").as_deref(), Some("c1"));
        assert_eq!(id("runc run -b /b c1").as_deref(), Some("c1"));
        assert_eq!(id("docker run --name c1 img"), None);
        assert_eq!(
            id("ctr run --apparmor-default-profile p img c1").as_deref(),
            Some("c1")
        );
        assert_eq!(id("runc --rootless true run c1").as_deref(), Some("c1"));
        // What stands in front has options of its own.
        let client = |line: &str| parse(line).expect("a start").client;
        assert_eq!(client("sudo -n ctr run img c1").option(&["-n"]), None);
        assert!(!client("sudo -r role podman start c1").is_remote());
    }

    #[test]
    fn options_are_added_before_the_others_and_replaced() {
        let mut start = parse("runc run -d -b b --pid-file p c1").expect("a start");
        start.set("--bundle", "-b", "/x");
        assert_eq!(
            start.words().join(" "),
            "runc run --bundle /x -d --pid-file p c1"
        );
        assert_eq!(start.id(), Some("c1"));
        assert_eq!(start.bundle(), Path::new("/x"));
        start.add(&["--keep"]);
        assert_eq!(start.positionals(), ["c1"]);
        let mut start = parse("podman --root r kube play a.yaml").expect("a start");
        start.add_global(&["--hooks-dir", "h"]);
        assert_eq!(
            start.words().join(" "),
            "podman --hooks-dir h --root r kube play a.yaml"
        );
        assert_eq!(start.positionals(), ["a.yaml"]);
    }

    #[test]
    fn compose_files_are_added_behind_the_users() {
        let mut start =
            parse("docker -H x compose -p p -f a.yaml --file=b.yaml up -d web").expect("a start");
        assert_eq!(start.compose_files(), ["a.yaml", "b.yaml"]);
        start.add_compose_files(&["c.yaml".to_owned()]);
        assert_eq!(
            start.words().join(" "),
            "docker -H x compose -p p -f a.yaml --file=b.yaml -f c.yaml up -d web"
        );
        assert_eq!(start.compose().len(), 11);
        assert_eq!(start.positionals(), ["web"]);
        let mut start = parse("podman-compose up").expect("a start");
        start.add_compose_files(&["c".to_owned()]);
        assert_eq!(start.words().join(" "), "podman-compose -f c up");
    }
}
