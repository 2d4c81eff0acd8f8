//! The disk that `scripts/build-vm` has built, and the packages that are installed on it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Which Debian the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Debian {
    /// Bookworm.
    #[value(name = "12")]
    Bookworm,
    /// Trixie.
    #[value(name = "13")]
    Trixie,
}

/// What a machine boots from. The files themselves are never written.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    name: &'static str,
}

impl Disk {
    /// The disk in `target`, the build's folder.
    pub fn find(target: &Path, debian: Debian) -> anyhow::Result<Self> {
        let (name, version) = match debian {
            Debian::Bookworm => ("debian-12", 12),
            Debian::Trixie => ("debian-13", 13),
        };
        let disk = Self { folder: target.join("vm"), name };
        let system = disk.system();
        ensure!(
            system.is_file(),
            "{} is not there; run `scripts/build-vm {version}`",
            system.display()
        );
        Ok(disk)
    }

    fn part(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    /// Where logs of runs may be kept.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The system.
    pub fn system(&self) -> PathBuf {
        self.part("qcow2")
    }

    /// The archive of packages.
    pub fn archive(&self) -> PathBuf {
        self.part("packages.qcow2")
    }

    pub fn kernel(&self) -> PathBuf {
        self.part("vmlinuz")
    }

    pub fn initrd(&self) -> PathBuf {
        self.part("initrd")
    }
}

/// The packages of `make deb`, the newest of each.
pub fn packages(target: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = target.join("debian");
    ["buddo-coordinator_", "buddo-agent_", "buddo_"]
        .iter()
        .map(|prefix| newest(&folder, prefix))
        .collect()
}

fn newest(folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let missing = || format!("{} has no {prefix}*.deb; run `make deb`", folder.display());
    let mut found = None;
    for entry in std::fs::read_dir(folder).with_context(missing)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(".deb") {
            found = found.max(Some((entry.metadata()?.modified()?, entry.path())));
        }
    }
    Ok(found.with_context(missing)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_package_of_each_name() {
        let target = tempfile::tempdir().unwrap();
        let folder = target.path().join("debian");
        std::fs::create_dir(&folder).unwrap();
        for name in ["buddo_1_amd64.deb", "buddo-agent_1_amd64.deb", "buddo-agent-dbgsym_1.deb"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let error = format!("{:#}", packages(target.path()).unwrap_err());
        assert!(error.contains("buddo-coordinator_") && error.contains("make deb"), "{error}");
        std::fs::write(folder.join("buddo-coordinator_1_amd64.deb"), "").unwrap();
        let found = packages(target.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
        let wanted =
            ["buddo-coordinator_1_amd64.deb", "buddo-agent_1_amd64.deb", "buddo_1_amd64.deb"];
        assert_eq!(names, wanted);
    }
}
