//! Files that commands read: what seccast wrote, and anybody's profiles.

use crate::{args::input::HostArgs, output};
use anyhow::{Context as _, anyhow};
use seccast_model::{
    Arch, Kind, Merged, Observation, Profile,
    defaults::{self, Engine, ResolvedDefault, resolve},
    near,
    observation::ReadError,
    parse::moby::{Host, MobyProfile},
    position,
    profile::{ParseError, RestartErrno},
    syscall,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

/// One byte more than any of the formats may have: enough to be told that it is too large.
const LIMIT: u64 = (64 << 20) + 1;

/// Unknown names that are listed.
const UNKNOWN: usize = 10;

/// What a file holds.
#[derive(Debug)]
pub enum Input {
    /// What a recording saw.
    Observation(Box<Observation>),
    /// What several saw, joined.
    Merged(Box<Merged>),
    /// A profile as a runtime gets it; one with conditions of docker or podman is resolved.
    Profile(Box<Profile>),
}

/// What a profile with conditions is resolved for.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The machine's native architecture.
    pub arch: Arch,
    /// The container's bounding set, as `CAP_CHOWN`.
    pub capabilities: BTreeSet<String>,
    /// The capabilities were not typed: an engine's default is resolved for those that the engine gives.
    pub own_capabilities: bool,
    /// Whether nothing is said of resolving.
    pub quiet: bool,
    /// Whether a run is judged under the profile: one whose denials cannot be seen is refused then, and else warned of.
    pub judges: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(&HostArgs::default(), false)
    }
}

impl Reader {
    /// What was typed; else this machine, with the capabilities that docker gives.
    pub fn new(host: &HostArgs, quiet: bool) -> Self {
        let given = host.capabilities.as_ref();
        Self {
            arch: host
                .arch
                .or_else(seccast_recorder::native)
                .unwrap_or(Arch::X86_64),
            capabilities: given.map_or_else(
                || defaults::DOCKER_CAPABILITIES.map(str::to_owned).into(),
                |given| {
                    let names = given.iter().flat_map(|some| &some.0);
                    names.map(|name| (*name).to_owned()).collect()
                },
            ),
            own_capabilities: given.is_none(),
            quiet,
            judges: false,
        }
    }

    /// An engine's default profile: for the capabilities that were typed, else for those that it gives.
    ///
    /// # Errors
    /// Only when the program was built with a broken file.
    pub fn default_of(&self, engine: Engine) -> Result<ResolvedDefault, ParseError> {
        if self.own_capabilities {
            let own = engine.capabilities().iter().copied();
            resolve(engine, self.arch, own)
        } else {
            let typed = self.capabilities.iter().map(String::as_str);
            resolve(engine, self.arch, typed)
        }
    }

    /// Reads a file; `-` is stdin. Says for what a profile with conditions was resolved.
    ///
    /// # Errors
    /// When it cannot be read, or is nothing of this; the error names the file, the line and the field where they are known, and what
    /// to do.
    pub fn read(&self, path: &Path) -> anyhow::Result<Input> {
        let bytes = bytes(path)?;
        let kind = match Observation::from_json(&bytes) {
            Ok(observation) => return Ok(Input::Observation(Box::new(observation))),
            Err(ReadError::Foreign { kind: Kind::Merged }) => {
                return Merged::from_json(&bytes)
                    .map(|merged| Input::Merged(Box::new(merged)))
                    .map_err(|error| refuse(path, &bytes, error.field(), &error));
            }
            Err(ReadError::Foreign { kind }) => kind,
            Err(error) => return Err(refuse(path, &bytes, error.field(), &error)),
        };
        let refuse_profile = |path: &Path, found: &RestartErrno| refuse(path, &bytes, None, found);
        let refuse = |error: ParseError| refuse(path, &bytes, error.field(), &error);
        let profile = match kind {
            Kind::OciProfile => Profile::from_oci_json(&bytes).map_err(refuse)?,
            Kind::DockerProfile => {
                let host = Host {
                    arch: self.arch,
                    capabilities: &self.capabilities,
                    kernel: None,
                };
                let dialect = MobyProfile::from_json(&bytes).map_err(refuse)?;
                let profile = dialect.resolve(host).map_err(refuse)?;
                if !self.quiet {
                    output::note(&format!(
                        "{}: has conditions of docker and podman; resolved for {} with {} capabilities",
                        path.display(),
                        self.arch,
                        self.capabilities.len()
                    ));
                }
                profile
            }
            kind => {
                return Err(anyhow!(
                    "this is {}, neither an observation nor a seccomp profile: {}",
                    kind.noun(),
                    advice(kind)
                )
                .context(format!("cannot use {}", path.display())));
            }
        };
        match profile.restart_errno() {
            Some(found) if self.judges => return Err(refuse_profile(path, &found)),
            Some(found) => output::warning(&format!("{}: {found}", path.display()), None),
            None => {}
        }
        warn_of_unknown(path, &profile);
        Ok(Input::Profile(Box::new(profile)))
    }
}

/// Names that no table has: runtimes leave them out without a word (semantics 1.2). Those of architectures without a table
/// here are in the engines' own profiles, and are not typing errors.
pub fn warn_of_unknown(path: &Path, profile: &Profile) {
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    let mut unknown: BTreeSet<_> = names.filter(|name| syscall::info(name).is_none()).collect();
    if unknown.is_empty() {
        return;
    }
    let of_engines = defaults::names();
    unknown.retain(|name| !of_engines.contains(*name));
    for name in unknown.iter().take(UNKNOWN) {
        let near = near::names(
            name,
            syscall::infos().iter().map(|info| info.name.to_owned()),
        );
        output::warning(
            &format!(
                "{}: no system call `{}` is known{}",
                path.display(),
                name.escape_debug(),
                near::suggestion(&near)
            ),
            Some(
                "runtimes ignore names that they do not know, so the rule does nothing for it: mend or remove it",
            ),
        );
    }
    if unknown.len() > UNKNOWN {
        output::warning(
            &format!("{}: and {} more", path.display(), unknown.len() - UNKNOWN),
            None,
        );
    }
}

/// Reads observations, merged or not, and joins them; `-` is stdin.
///
/// # Errors
/// As [`Reader::read`]; a profile is an error, and so are two files of one recording that say different things of it.
pub fn recordings(paths: &[PathBuf]) -> anyhow::Result<Merged> {
    let mut merged = Merged::default();
    for path in paths {
        let bytes = bytes(path)?;
        let one = match Observation::from_json(&bytes) {
            Ok(observation) => Ok(Merged::of(observation)?),
            Err(ReadError::Foreign { kind: Kind::Merged }) => Merged::from_json(&bytes),
            Err(error) => Err(error),
        };
        let one = one.map_err(|error| refuse(path, &bytes, error.field(), &error))?;
        absorb(&mut merged, one, path)?;
    }
    Ok(merged)
}

/// Joins what a file holds.
///
/// # Errors
/// When it says other things of a recording than those before it; the error names the file.
pub fn absorb(merged: &mut Merged, one: Merged, path: &Path) -> anyhow::Result<()> {
    merged
        .absorb(one)
        .with_context(|| format!("cannot join {} with the files before it", path.display()))
}

/// Reads a profile; `-` is stdin. One with conditions is resolved for this machine.
///
/// # Errors
/// As [`Reader::read`]; an observation is an error.
pub fn profile(path: &Path, quiet: bool) -> anyhow::Result<Profile> {
    profile_of(path, quiet, false)
}

/// Reads a profile under which a run is to be judged.
///
/// # Errors
/// As [`profile`]; and when the profile's denials cannot be seen.
pub fn profile_to_judge(path: &Path, quiet: bool) -> anyhow::Result<Profile> {
    profile_of(path, quiet, true)
}

fn profile_of(path: &Path, quiet: bool, judges: bool) -> anyhow::Result<Profile> {
    let reader = Reader {
        quiet,
        judges,
        ..Reader::default()
    };
    match reader.read(path)? {
        Input::Profile(profile) => Ok(*profile),
        Input::Observation(_) | Input::Merged(_) => Err(anyhow!(
            "this holds recordings, it is not a profile: make one of it with `seccast generate`"
        )
        .context(format!("cannot use {}", path.display()))),
    }
}

/// The bytes of a file, bounded; `-` is stdin.
///
/// # Errors
/// Names the file, and what to do where it is something else than a readable file.
pub fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(LIMIT).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::IsADirectory => ": give the name of a file",
                ErrorKind::PermissionDenied => ": run as its owner, or as root",
                _ => "",
            };
            Err(anyhow!("cannot read {}: {error}{advice}", path.display()))
        }
    }
}

/// The error of a file that was read, with the place where it is known.
pub fn refuse(
    path: &Path,
    bytes: &[u8],
    field: Option<&str>,
    error: &(dyn std::error::Error + 'static),
) -> anyhow::Error {
    let place = field
        .and_then(|field| position(bytes, field))
        .map(|(line, column)| format!(", line {line}, column {column}"))
        .unwrap_or_default();
    // The source of a syntax error says where it is.
    let source = error.source().map(|source| format!(": {source}"));
    anyhow!("{error}{}", source.unwrap_or_default())
        .context(format!("cannot use {}{place}", path.display()))
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Report => "give the observation or the profile, not the report beside it",
        Kind::RuntimeSpec => {
            "its profile is the value of `linux.seccomp`; `jq .linux.seccomp` takes it out"
        }
        Kind::Manifest => "give the JSON that the node has as a file, without the object around it",
        _ => "give what `seccast record --observation` wrote, or a seccomp profile in JSON",
    }
}
