//! Programs that stand in front of a command and execute it: `timeout -k 5 20 sudo -u root docker run …`.
//!
//! Only those whose command line tells where the command begins. What else executes a client (a script, make, `sh -c`) is
//! seen when it does.

use crate::runtime::line::base;

/// How a program's command line is read up to the command that it executes.
struct Wrapper {
    name: &'static str,
    /// Letters of options that take a value, joined or as the next word.
    letters: &'static str,
    /// Long options that take a value as the next word.
    long: &'static [&'static str],
    /// Words between the options and the command.
    operands: usize,
    /// `NAME=VALUE` may stand in front of the command.
    assigns: bool,
    /// Options with which it executes no command, or one that is not in its words.
    ends: &'static [&'static str],
    /// Who asks the engine has to ask through it: it decides the user or the environment. The others bound or reorder one run.
    keeps: bool,
    /// Options that name the user.
    user: &'static [&'static str],
}

const PLAIN: Wrapper = Wrapper {
    name: "",
    letters: "",
    long: &[],
    operands: 0,
    assigns: false,
    ends: &[],
    keeps: false,
    user: &[],
};

/// sudo(8) 1.9, doas(1), runuser(1), setpriv(1), coreutils 9, util-linux 2.38, time(1) 1.9.
const WRAPPERS: [Wrapper; 15] = [
    Wrapper {
        name: "sudo",
        letters: "CDRTUacghprtu",
        long: &[
            "--auth-type",
            "--chdir",
            "--chroot",
            "--close-from",
            "--command-timeout",
            "--group",
            "--host",
            "--login-class",
            "--other-user",
            "--prompt",
            "--role",
            "--type",
            "--user",
        ],
        assigns: true,
        ends: &["-e", "--edit", "-l", "--list", "-v", "--validate", "-K"],
        keeps: true,
        user: &["-u", "--user"],
        ..PLAIN
    },
    Wrapper {
        name: "doas",
        letters: "Cau",
        ends: &["-L", "-s", "-C"],
        keeps: true,
        user: &["-u"],
        ..PLAIN
    },
    Wrapper {
        name: "runuser",
        letters: "Ggu",
        long: &["--group", "--supp-group", "--user"],
        ends: &["-c", "--command", "--session-command", "-l", "-"],
        keeps: true,
        user: &["-u", "--user"],
        ..PLAIN
    },
    Wrapper {
        name: "setpriv",
        long: &[
            "--ambient-caps",
            "--apparmor-profile",
            "--bounding-set",
            "--egid",
            "--euid",
            "--groups",
            "--inh-caps",
            "--pdeathsig",
            "--regid",
            "--reuid",
            "--rgid",
            "--ruid",
            "--securebits",
            "--selinux-label",
        ],
        ends: &["-d", "--dump"],
        keeps: true,
        user: &["--reuid", "--euid"],
        ..PLAIN
    },
    Wrapper {
        name: "env",
        letters: "Cu",
        long: &["--chdir", "--unset"],
        assigns: true,
        ends: &["-S", "--split-string"],
        keeps: true,
        ..PLAIN
    },
    Wrapper {
        name: "nice",
        letters: "n",
        long: &["--adjustment"],
        ..PLAIN
    },
    Wrapper {
        name: "ionice",
        letters: "cn",
        long: &["--class", "--classdata"],
        ends: &["-p", "--pid", "-P", "--pgid", "-u", "--uid"],
        ..PLAIN
    },
    Wrapper {
        name: "nohup",
        ..PLAIN
    },
    Wrapper {
        name: "setsid",
        ..PLAIN
    },
    Wrapper {
        name: "stdbuf",
        letters: "eio",
        long: &["--error", "--input", "--output"],
        ..PLAIN
    },
    Wrapper {
        name: "timeout",
        letters: "ks",
        long: &["--kill-after", "--signal"],
        operands: 1,
        ..PLAIN
    },
    Wrapper {
        name: "chrt",
        letters: "DPT",
        long: &["--sched-deadline", "--sched-period", "--sched-runtime"],
        operands: 1,
        ends: &["-p", "--pid", "-m", "--max"],
        ..PLAIN
    },
    Wrapper {
        name: "taskset",
        operands: 1,
        ends: &["-p", "--pid"],
        ..PLAIN
    },
    Wrapper {
        name: "flock",
        letters: "Ew",
        long: &["--conflict-exit-code", "--timeout", "--wait"],
        operands: 1,
        ends: &["-c", "--command"],
        ..PLAIN
    },
    Wrapper {
        name: "time",
        letters: "fo",
        long: &["--format", "--output"],
        ..PLAIN
    },
];

/// What stands in front of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Front {
    /// Where the command begins.
    pub(super) length: usize,
    /// The words of it that decide the user and the environment.
    pub(super) kept: Vec<String>,
    /// The user whom the last of them names, as it is written there.
    pub(super) user: Option<String>,
}

/// Reads what stands in front of a command; `None` where no command follows.
pub(super) fn front(words: &[String]) -> Option<Front> {
    let mut front = Front::default();
    while let Some(wrapper) = WRAPPERS
        .iter()
        .find(|wrapper| wrapper.name == base(words.get(front.length).map_or("", String::as_str)))
    {
        let (end, user) = wrapper.read(words, front.length + 1)?;
        if wrapper.keeps {
            front.kept.extend_from_slice(&words[front.length..end]);
        }
        front.user = user.or(front.user);
        front.length = end;
    }
    (front.length < words.len()).then_some(front)
}

impl Wrapper {
    /// Where its command begins, and the user whom it names.
    fn read(&self, words: &[String], mut at: usize) -> Option<(usize, Option<String>)> {
        let mut user = None;
        loop {
            let word = words.get(at)?.as_str();
            if word == "--" {
                at += 1;
                break;
            }
            if !word.starts_with('-') {
                break;
            }
            let (name, joined) = self.option(word);
            if self.ends.contains(&name.as_str()) {
                return None;
            }
            let value = match joined {
                Some(value) => Some(value),
                None if self.takes_value(&name) => {
                    at += 1;
                    Some(words.get(at)?.clone())
                }
                None => None,
            };
            if self.user.contains(&name.as_str()) {
                user = value;
            }
            at += 1;
        }
        at += self.operands;
        while self.assigns && words.get(at)?.contains('=') {
            at += 1;
        }
        Some((at, user))
    }

    /// An option's name and the value that is joined to it: of letters, those behind the first that takes one.
    fn option(&self, word: &str) -> (String, Option<String>) {
        if word.starts_with("--") {
            return match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            };
        }
        let mut last = String::from("-");
        for (at, letter) in word.char_indices().skip(1) {
            last = format!("-{letter}");
            let rest = &word[at + letter.len_utf8()..];
            if self.ends.contains(&last.as_str()) {
                break;
            }
            if self.letters.contains(letter) {
                return (last, Some(rest.to_owned()).filter(|rest| !rest.is_empty()));
            }
        }
        (last, None)
    }

    fn takes_value(&self, name: &str) -> bool {
        match name.strip_prefix('-') {
            Some(letter) if !letter.starts_with('-') => {
                !letter.is_empty() && self.letters.contains(letter)
            }
            _ => self.long.contains(&name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_begins_behind_the_options_of_what_stands_in_front() {
        let check = |line: &str, expected: Option<(&str, &str, Option<&str>)>| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            let found = front(&words).map(|front| {
                (
                    words[front.length..].join(" "),
                    front.kept.join(" "),
                    front.user,
                )
            });
            let expected = expected.map(|(command, kept, user)| {
                (command.to_owned(), kept.to_owned(), user.map(str::to_owned))
            });
            assert_eq!(found, expected, "{line}");
        };
        let plain = |line: &str| check(line, Some(("docker run web", "", None)));
        plain("docker run web");
        plain("timeout 20 docker run web");
        plain("timeout -k 5 20 docker run web");
        plain("timeout -k5 --signal INT --foreground 20 docker run web");
        plain("timeout --kill-after=5 -s KILL 20 docker run web");
        plain("nice docker run web");
        plain("nice -n 5 docker run web");
        plain("nice -5 docker run web");
        plain("nice --adjustment=5 docker run web");
        plain("ionice -c 3 docker run web");
        plain("ionice -c2 -n 7 -t docker run web");
        plain("nohup docker run web");
        plain("/usr/bin/setsid -w docker run web");
        plain("stdbuf -o L -eL docker run web");
        plain("chrt -f 10 docker run web");
        plain("taskset -c 0-1 docker run web");
        plain("flock -w 5 /run/lock docker run web");
        plain("time -f %e docker run web");
        plain("nice -n 5 timeout 20 setsid docker run web");
        check(
            "sudo -u root docker run web",
            Some(("docker run web", "sudo -u root", Some("root"))),
        );
        check(
            "sudo -nEu web A=b docker run web",
            Some(("docker run web", "sudo -nEu web A=b", Some("web"))),
        );
        check(
            "sudo --user=web -- docker run web",
            Some(("docker run web", "sudo --user=web --", Some("web"))),
        );
        check(
            "env -u X A=b docker run web",
            Some(("docker run web", "env -u X A=b", None)),
        );
        check(
            "env - A=b docker run web",
            Some(("docker run web", "env - A=b", None)),
        );
        check(
            "timeout 20 sudo -u web nice env X=1 docker run web",
            Some(("docker run web", "sudo -u web env X=1", Some("web"))),
        );
        check(
            "runuser -u web -- podman run web",
            Some(("podman run web", "runuser -u web --", Some("web"))),
        );
        check(
            "setpriv --reuid 1000 --clear-groups podman run web",
            Some((
                "podman run web",
                "setpriv --reuid 1000 --clear-groups",
                Some("1000"),
            )),
        );
        for none in [
            "sudo",
            "sudo -u",
            "sudo -l docker",
            "env -S docker",
            "ionice -c 3 -p 1",
            "taskset -p 1",
            "timeout 20",
            "flock /run/lock -c docker",
        ] {
            let words: Vec<_> = none.split(' ').map(str::to_owned).collect();
            assert!(
                front(&words).is_none_or(|front| words[front.length].starts_with('-')),
                "{none}"
            );
        }
    }
}
