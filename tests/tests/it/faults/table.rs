//! `docs/failure-modes.md` against the sources: each fault that must have a test has one, each
//! test that is named exists once, and none is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Faults that must have a row; others may.
const FAULTS: std::ops::RangeInclusive<u32> = 1..=50;

/// An entry that begins like this is not an `fm_` test: it says in which file of the repository, or
/// by which `make` target, the rest is proven, or [`UNTESTED`].
const ASIDE: &str = "(";

/// A row without proof says so: a false promise is worse than none.
const UNTESTED: &str = "not tested yet";

#[test]
fn the_failure_mode_table_matches_the_tests() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let written = table(root, &fs::read_to_string(root.join("docs/failure-modes.md"))?)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in ["shared", "runtime", "agent", "coordinator", "cli", "tests"] {
        tests_below(root, &root.join(folder), &mut found)?;
    }
    let numbers: BTreeSet<u32> = written.keys().copied().collect();
    ensure!(
        FAULTS.collect::<BTreeSet<_>>().is_subset(&numbers),
        "a number is missing: {numbers:?}"
    );
    let mut named = BTreeSet::new();
    for (number, tests) in &written {
        for (test, file) in tests {
            let of_number = format!("fm_{number:02}_");
            ensure!(test.starts_with(&of_number), "{test} is in the row of {number}");
            let files = found.get(test).with_context(|| format!("there is no test {test}"))?;
            ensure!(files == std::slice::from_ref(file), "{test} is in {files:?}, not in {file}");
            named.insert(test.clone());
        }
    }
    let missing: Vec<_> = found.keys().filter(|test| !named.contains(*test)).collect();
    ensure!(missing.is_empty(), "not in docs/failure-modes.md: {missing:#?}");
    Ok(())
}

/// Number → (test, file) of each line `| NN | fault | mechanism | tests |`.
fn table(root: &Path, text: &str) -> anyhow::Result<BTreeMap<u32, Vec<(String, String)>>> {
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, _, mechanism, tests] = cells.as_slice() else { continue };
        let Ok(number) = number.parse() else { continue };
        ensure!(!mechanism.is_empty(), "{number} has no mechanism");
        let mut named = Vec::new();
        for entry in tests.split("<br>") {
            if entry.starts_with(ASIDE) {
                let proven = match entry.split('`').nth(1) {
                    Some(named) => is_there(root, named)?,
                    None => false,
                };
                ensure!(proven || entry.contains(UNTESTED), "{number} promises a proof: {entry}");
                continue;
            }
            let mut quoted = entry.split('`').skip(1).step_by(2).map(str::to_owned);
            let (test, file) = (quoted.next(), quoted.next());
            named.push((test.context("no test")?, file.with_context(|| entry.to_owned())?));
        }
        ensure!(!tests.is_empty(), "{number} has no test and does not say where it is proven");
        ensure!(lines.insert(number, named).is_none(), "{number} is there twice");
    }
    Ok(lines)
}

/// Whether the repository has this file, or this `make TARGET`.
fn is_there(root: &Path, named: &str) -> anyhow::Result<bool> {
    let Some(target) = named.strip_prefix("make ") else { return Ok(root.join(named).is_file()) };
    let makefile = fs::read_to_string(root.join("Makefile"))?;
    Ok(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))))
}

/// Test → the files that hold a function of its name.
fn tests_below(
    root: &Path,
    folder: &Path,
    found: &mut BTreeMap<String, Vec<String>>,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            tests_below(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(root)?.to_string_lossy().into_owned();
            for line in fs::read_to_string(&path)?.lines() {
                let line = line.trim_start().trim_start_matches("async ");
                let Some(rest) = line.strip_prefix("fn fm_") else { continue };
                let name = rest.split(['(', '<']).next().unwrap_or_default();
                found.entry(format!("fm_{name}")).or_default().push(file.clone());
            }
        }
    }
    Ok(())
}
