//! `cargo xtask e2e`: the tests that need a cluster, in one of two nodes that is made for them.

use anyhow::{Result, ensure};
use seccast_rig::cluster::Cluster;

use crate::cluster::{self, Up};
use crate::process::{self, Run};
use crate::suite::{self, Suite, Test};
use crate::test::{self, CLUSTER};
use crate::{dist, image, places};

/// Why it needs root.
pub(crate) const REASON: &str = "running a cluster";

/// What the tests want.
const NODES: u8 = 2;

/// How long another cluster of this machine is waited for, in seconds.
const PATIENCE: u64 = 600;

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only tests that have one of these words in their name.
    words: Vec<String>,
    /// Leave the cluster up; one of this checkout, of two nodes, that is up already is used.
    #[arg(long)]
    keep: bool,
    /// Other steps run beside this one: what they have built is taken as it is.
    #[arg(skip)]
    beside: bool,
}

impl Args {
    /// Those that have one of these words in their name.
    pub(crate) fn of(words: Vec<String>) -> Self {
        Self {
            words,
            ..Self::default()
        }
    }

    /// All of them in a cluster of their own, as a step of `ci`.
    pub(crate) fn of_gate(beside: bool) -> Self {
        Self {
            beside,
            ..Self::default()
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    process::want_root(REASON)?;
    let binary = if args.beside {
        dist::path()?
    } else {
        dist::build()?
    };
    image::build(&binary)?;
    let programs = if args.beside {
        suite::saved()?
    } else {
        suite::build(&[format!("--package={CLUSTER}")])?
    };
    let tests = list(
        &suite::of(&programs, |package| package == CLUSTER),
        &args.words,
    )?;
    let suite = Suite {
        name: "e2e",
        // Each has the cluster for itself.
        beside: 1,
        ..test::kernel("e2e")?
    };
    let cluster = bring_up(args.keep)?;
    let done = suite.run(tests);
    cluster.end()?;
    done.map(drop)
}

fn list(programs: &[suite::Program], words: &[String]) -> Result<Vec<Test>> {
    let wanted = |test: &Test| {
        let name = test.to_string();
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    };
    let tests = suite::list(programs, wanted)?;
    ensure!(
        !tests.is_empty(),
        "no test has one of these words in its name: {}",
        words.join(", ")
    );
    Ok(tests)
}

fn bring_up(keep: bool) -> Result<Ends> {
    match Cluster::running() {
        // Nobody but us would take it down: waiting for that were in vain.
        Ok(cluster) if cluster.checkout == places::root() => {
            ensure!(
                keep && cluster.nodes.len() == usize::from(NODES),
                "a cluster of this checkout is up, nodes: {}; --keep uses one of {NODES}, \
                 `cargo xtask cluster down` makes way for another",
                cluster.nodes.len()
            );
            let images = cluster::prepare()?.images;
            Run::own(["cluster", "load-image"])?
                .args(images)
                .rooted()
                .run()?;
        }
        _ => cluster::up(&Up::of(NODES, PATIENCE))?,
    }
    Ok(Ends(!keep))
}

/// Takes the cluster down, however the tests end.
struct Ends(bool);

impl Ends {
    fn end(mut self) -> Result<()> {
        if std::mem::take(&mut self.0) {
            cluster::take_down()?;
        }
        Ok(())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if self.0 {
            // A panic or an error is on its way already, and says more.
            let _ = cluster::take_down();
        }
    }
}
