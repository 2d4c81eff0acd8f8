//! The configuration of Podman's service (`containers.conf(5)`): the files found through its
//! environment, each of which overrides those before it. The API does not report it.

use std::path::{Path, PathBuf};

use super::super::gathered::Seen;
use super::read;

/// Whether the service with this pid gives each container a keyring.
pub(super) fn keyring(service: i32) -> Seen<bool> {
    let environment = read(Path::new(&format!("/proc/{service}/environ")))?;
    let texts = files(&environment).into_iter().filter(|file| file.exists());
    let texts: Vec<(PathBuf, String)> =
        texts.map(|file| read(&file).map(|text| (file, text))).collect::<Seen<_>>()?;
    keyring_by(&texts)
}

/// In the order in which they are read.
fn files(environment: &str) -> Vec<PathBuf> {
    let variable = |name: &str| {
        let mut pairs = environment.split('\0').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
    };
    let last = variable("CONTAINERS_CONF_OVERRIDE").map(PathBuf::from);
    if let Some(only) = variable("CONTAINERS_CONF") {
        return [only.into()].into_iter().chain(last).collect();
    }
    let own = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.or_else(|| Some(Path::new(variable("HOME")?).join(".config")));
    let mut files = vec![PathBuf::from("/usr/share/containers/containers.conf")];
    for folder in [Some("/etc".into()), own].into_iter().flatten() {
        let folder = folder.join("containers");
        files.push(folder.join("containers.conf"));
        let mut more: Vec<PathBuf> = std::fs::read_dir(folder.join("containers.conf.d"))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        more.retain(|file| file.extension().is_some_and(|kind| kind == "conf"));
        more.sort();
        files.extend(more);
    }
    files.into_iter().chain(last).collect()
}

/// It does unless the last file that sets it says no.
fn keyring_by(texts: &[(PathBuf, String)]) -> Seen<bool> {
    let mut keyring = true;
    for (file, text) in texts {
        let table: toml::Table =
            text.parse().map_err(|_| format!("{} is not TOML", file.display()))?;
        let said = table.get("containers").and_then(|containers| containers.get("keyring"));
        keyring = said.and_then(toml::Value::as_bool).unwrap_or(keyring);
    }
    Ok(keyring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_file_that_sets_keyring_wins() {
        let by = |texts: &[&str]| {
            let texts: Vec<_> =
                texts.iter().map(|text| (PathBuf::from("c"), (*text).to_owned())).collect();
            keyring_by(&texts)
        };
        assert_eq!(by(&[]), Ok(true));
        assert_eq!(
            by(&["[containers]\nkeyring = false", "[engine]\nruntime = \"crun\""]),
            Ok(false)
        );
        assert_eq!(
            by(&["[containers]\nkeyring = false", "[containers]\nkeyring = true"]),
            Ok(true)
        );
        assert!(by(&["[containers"]).unwrap_err().contains("not TOML"));
    }

    #[test]
    fn config_files_are_chosen_by_the_services_environment() {
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = folder.path().join("containers/containers.conf.d");
        std::fs::create_dir_all(&drop_ins).unwrap();
        for name in ["b.conf", "a.conf", "c.conf.bak"] {
            std::fs::write(drop_ins.join(name), "").unwrap();
        }
        let own = folder.path().display();
        let found = files(&format!("HOME=/nowhere\0XDG_CONFIG_HOME={own}\0CONTAINERS_CONF=\0"));
        let expected = ["containers.conf", "containers.conf.d/a.conf", "containers.conf.d/b.conf"]
            .map(|name| folder.path().join("containers").join(name));
        assert!(found.ends_with(&expected), "{found:?}");
        assert_eq!(found[0], Path::new("/usr/share/containers/containers.conf"));
        let found = files("CONTAINERS_CONF_OVERRIDE=/o\0CONTAINERS_CONF=/c\0HOME=/h\0");
        assert_eq!(found, ["/c", "/o"].map(PathBuf::from));
        assert!(
            files("HOME=/h\0").contains(&PathBuf::from("/h/.config/containers/containers.conf"))
        );
    }
}
