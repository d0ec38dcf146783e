//! What `cargo xtask demo` runs as root: the whole story with a real server. Progress goes to stderr, the result to stdout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use seccast_closed_loop::recorder::{read_json, read_observation};
use seccast_closed_loop::redis::{Host, Loop};
use seccast_model::defaults::{DOCKER_CAPABILITIES, Engine, resolve};
use seccast_model::observation::Phase;
use seccast_model::profile::Profile;
use seccast_model::{Arch, Observation, Policy, generate, syscall};
use seccast_rig::cgroup::Scope;
use seccast_rig::{Bundle, Container, Runtime, Witness, lock, rootfs, unique};

/// How many requests each test of redis-benchmark makes.
const REQUESTS: u32 = 5000;

/// A call that redis has no use for, made once under redis's profile to see that the witness would have seen a denial.
const UNWANTED: &str = "unshare";

/// Records redis in a container under load, and runs it again under the profile that comes of it.
#[derive(Parser)]
struct Args {
    /// The binary.
    #[arg(long)]
    seccast: PathBuf,
    /// The folder of its files.
    #[arg(long)]
    folder: PathBuf,
}

fn main() -> ExitCode {
    let Args { seccast, folder } = Args::parse();
    seccast_closed_loop::main(|| tell(&seccast, &folder))
}

fn tell(seccast: &Path, folder: &Path) -> Result<()> {
    // Its witness counts in its own groups only.
    let _lock = lock::beside()?;
    eprintln!("demo: fetching redis and starting the witness");
    rootfs::redis()?;
    let scope = Scope::new("demo")?;
    let redis = Loop {
        seccast,
        folder,
        host: Host::Runc(&scope),
        requests: REQUESTS,
    };
    let mut witness = Witness::attach(&scope)?;

    eprintln!("demo: recording redis under load");
    let start = Instant::now();
    redis.record()?;
    let recorded = start.elapsed();
    witness.take()?;

    eprintln!("demo: writing its profile");
    redis.generate()?;

    eprintln!("demo: running it again under its profile, with the same load");
    let start = Instant::now();
    redis.enforce()?;
    let enforced = start.elapsed();
    let testimony = witness.take()?;

    eprintln!("demo: making a call that the profile does not allow");
    let control = control(&redis, &scope, &mut witness)?;

    let facts = Facts::read(&redis)?;
    println!(
        "{}",
        facts.text(recorded, enforced, testimony.count(), control, folder)
    );
    ensure!(
        testimony.count() == 0 && testimony.killed.is_empty(),
        "the enforced run was denied calls:\n{testimony}"
    );
    ensure!(
        control == Some(1) || control.is_none(),
        "the witness did not see the denied call: its word on redis is worth nothing"
    );
    Ok(())
}

/// Runs a small program under redis's profile that makes one call which is not in it. Returns how many denials were seen;
/// `None` where the program cannot be built.
fn control(redis: &Loop<'_>, scope: &Scope, witness: &mut Witness) -> Result<Option<u64>> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(None);
    }
    let tree = tempfile::tempdir().context("failed to make a temporary folder")?;
    rootfs::with_program(tree.path(), &seccast_workloads::path("one"))?;
    let nr = syscall::nr(Arch::X86_64, UNWANTED)
        .with_context(|| format!("no call is named {UNWANTED}"))?;
    let [abi, nr] = seccast_workloads::numbers::one(Arch::X86_64, nr);
    let name = &unique("seccast-demo-control");
    let bundle = Bundle::new(tree.path(), ["/program".to_owned(), abi, nr])
        .seccomp(read_json(&redis.profile())?);
    let mut container = Container::new(
        name,
        &bundle.cgroups_path(scope.child(name)),
        &Runtime::runc()?,
    )?;
    let status = container.run(Duration::from_secs(60))?;
    ensure!(
        status.success(),
        "the control program failed: {status}\n{}",
        container.log()
    );
    Ok(Some(witness.take()?.count()))
}

/// What the files say.
struct Facts {
    observation: Observation,
    summary: seccast_model::report::Summary,
    comparison: seccast_model::report::Comparison,
}

impl Facts {
    fn read(redis: &Loop<'_>) -> Result<Self> {
        let observation = read_observation(&redis.observation())?;
        let bytes = fs::read(redis.profile()).context("failed to read the profile")?;
        let profile = Profile::from_oci_json(&bytes).context("failed to understand the profile")?;
        let mut made = generate(std::slice::from_ref(&observation), &Policy::default())
            .context("failed to generate the profile again")?;
        ensure!(
            made.profile == profile,
            "the profile on disk is not what the observation gives: {}",
            redis.profile().display()
        );
        let arch = observation.machine.arch;
        let default = resolve(Engine::Docker, arch, DOCKER_CAPABILITIES)
            .context("failed to resolve docker's default")?;
        made.report.compare(&default);
        let comparison = made
            .report
            .comparison
            .take()
            .context("the report compares nothing")?;
        Ok(Self {
            observation,
            summary: made.report.summary(),
            comparison,
        })
    }

    /// Distinct calls in one part of the container's life.
    fn calls(&self, phase: Phase) -> usize {
        self.observation
            .calls
            .iter()
            .filter(|((_, of), _)| *of == phase)
            .map(|(_, calls)| calls.len())
            .sum()
    }

    fn text(
        &self,
        recorded: Duration,
        enforced: Duration,
        denials: u64,
        control: Option<u64>,
        folder: &Path,
    ) -> String {
        let Self {
            observation,
            summary,
            comparison,
        } = self;
        let losses: u64 = observation.losses.values().sum();
        let control = match control {
            Some(count) => format!(
                "\n             (it would see one: {UNWANTED}, called once under the same profile, was counted {count} time)"
            ),
            None => String::new(),
        };
        format!(
            "
redis, recorded in a runc container and run again under its own profile

  recorded   {application} system calls by redis under load, from its first instruction to its end ({recorded:.1} s)
             {runtime} by the runtime before it, kept apart; {losses} lost; kernel {kernel}
  profile    {allowed} names allowed: {recorded_names} recorded, {core} that every program needs, {base} for the runtime,
             {closure} for other kernels and machines
             {here} allowed against docker's RuntimeDefault {default} of {known}
             ({with})
  enforced   started, same load passed, stopped by SIGTERM ({enforced:.1} s)
  denied     {denials} calls, counted by bpftrace: exits from the kernel without an entry{control}

  files      {folder}/
               observation.json      what was recorded: the artefact to keep
               profile.json          the profile, for any OCI runtime
               profile.report.json   each allowed name with its reason
",
            application = self.calls(Phase::App),
            recorded = recorded.as_secs_f64(),
            runtime = self.calls(Phase::Runtime),
            kernel = observation.machine.kernel,
            allowed = summary.allowed,
            recorded_names = summary.recorded,
            core = summary.core_added,
            base = summary.base_added,
            closure = summary.closure_added,
            here = comparison.profile_allows,
            default = comparison.default_allows,
            known = comparison.known,
            with = comparison.with,
            enforced = enforced.as_secs_f64(),
            folder = folder.display(),
        )
    }
}
