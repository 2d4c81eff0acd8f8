//! `buddo completions` and `buddo man`.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

use crate::args;
use crate::error::{CliError, Kind};
use crate::ui::Ui;

pub(super) fn completions(ui: &mut Ui, shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "buddo", &mut script);
    ui.raw(&String::from_utf8_lossy(&script))
}

pub(super) fn manual(ui: &mut Ui, directory: &Path) -> Result<(), CliError> {
    clap_mangen::generate_to(args::command(), directory).map_err(|source| {
        let error = ManualError { path: directory.to_owned(), source };
        CliError::wrap(Kind::Failure, error).hint("name an existing folder that you may write to")
    })?;
    ui.note(&format!("Wrote the manual pages to {}", directory.display()));
    Ok(())
}

/// The pages cannot be written to the folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot write manual pages to {}", .path.display())]
struct ManualError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}
