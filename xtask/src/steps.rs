//! A list of steps: each prints its name, how long it took, and how to repeat it when it fails.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::process::Run;

type Work = Box<dyn FnOnce() -> Result<()>>;

/// One step of `test` or `ci`.
pub(crate) struct Step {
    name: &'static str,
    repeat: String,
    work: Work,
}

impl Step {
    /// A step that is one command; the command itself is how to repeat it.
    pub(crate) fn command(name: &'static str, run: Run) -> Self {
        Self {
            name,
            repeat: run.to_string(),
            work: Box::new(move || run.run()),
        }
    }

    /// A step that this xtask does; `repeat` is the line to type.
    pub(crate) fn work(
        name: &'static str,
        repeat: &str,
        work: impl FnOnce() -> Result<()> + 'static,
    ) -> Self {
        Self {
            name,
            repeat: repeat.to_owned(),
            work: Box::new(work),
        }
    }
}

/// Runs the steps in order and stops at the first that fails. With `only`, runs just those named.
pub(crate) fn run(steps: Vec<Step>, only: &[String]) -> Result<()> {
    if let Some(unknown) = only
        .iter()
        .find(|name| !steps.iter().any(|step| step.name == name.as_str()))
    {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        bail!(
            "no step is called `{unknown}`; the steps are {}",
            names.join(", ")
        );
    }
    let chosen: Vec<_> = steps
        .into_iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect();
    let (all, start) = (chosen.len(), Instant::now());
    let mut rows = Vec::new();
    for (done, Step { name, repeat, work }) in chosen.into_iter().enumerate() {
        eprintln!("\n[{}/{all}] {name}: {repeat}", done + 1);
        let began = Instant::now();
        let result = work();
        let took = began.elapsed().as_secs_f64();
        if let Err(error) = result {
            eprintln!(
                "[{}/{all}] {name}: FAILED after {took:.1} s: {error:#}",
                done + 1
            );
            bail!("step `{name}` failed; repeat it with: {repeat}");
        }
        eprintln!("[{}/{all}] {name}: ok after {took:.1} s", done + 1);
        rows.push((name, took));
    }
    eprintln!();
    for (name, took) in rows {
        eprintln!("{took:8.1} s  {name}");
    }
    eprintln!(
        "{:8.1} s  in all, every step ok",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stops_and_says_how_to_repeat_it() {
        let steps = vec![
            Step::work("first", "cargo xtask first", || Ok(())),
            Step::work("second", "cargo xtask second", || bail!("the reason")),
            Step::work("third", "cargo xtask third", || panic!("must not run")),
        ];
        let error = format!("{:#}", run(steps, &[]).unwrap_err());
        assert_eq!(
            error,
            "step `second` failed; repeat it with: cargo xtask second"
        );
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_list() {
        let error = run(
            vec![Step::work("fmt", "cargo fmt", || Ok(()))],
            &["fmtt".to_owned()],
        )
        .unwrap_err()
        .to_string();
        assert_eq!(error, "no step is called `fmtt`; the steps are fmt");
    }
}
