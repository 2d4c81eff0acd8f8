//! What is left of secrets after an interrupted write. Pure.
//!
//! Podman keeps names and values in two files, and writes each of them in place, the values first:
//! a kill or a full disk in the middle leaves a file that is not valid JSON, and then every call
//! that involves secrets fails for good; one between the two leaves a name without a value, which
//! can be neither removed nor replaced, or a value without a name, which stays forever. So it is in
//! 4.3 and in 6 (containers/common `pkg/secrets`). What this makes of the two files is consistent,
//! and holds everything that is complete in both.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `secrets.json`: what Podman calls its secrets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Names {
    #[serde(default)]
    secrets: BTreeMap<String, Entry>,
    #[serde(default, rename = "nameToID")]
    by_name: BTreeMap<String, String>,
    #[serde(default, rename = "idToName")]
    by_id: BTreeMap<String, String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    driver: String,
    #[serde(default, rename = "driverOptions")]
    options: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// `secretsdata.json`: an ID → a value, in base64.
pub(super) type Values = BTreeMap<String, String>;

/// The repaired contents of the files, where they differ.
#[derive(Debug, PartialEq)]
pub(super) struct Whole {
    pub(super) names: Names,
    pub(super) values: Values,
    /// Whether this file was not valid JSON, and nothing of it is in here.
    pub(super) names_torn: bool,
    pub(super) values_torn: bool,
    /// How many secrets had only a name or only a value.
    pub(super) halves: usize,
}

/// The repaired contents for files that hold this; `None`: they are fine. A missing file counts as
/// empty. `folder`: where this Podman's file driver keeps values, to tell apart secrets of other
/// drivers, whose values are elsewhere.
pub(super) fn mend(names: Option<&[u8]>, values: Option<&[u8]>, folder: &Path) -> Option<Whole> {
    let names: Result<Names, _> = names.map_or_else(|| Ok(Names::default()), parse);
    let values: Result<Values, _> = values.map_or_else(|| Ok(Values::default()), parse);
    let (names_torn, values_torn) = (names.is_err(), values.is_err());
    let (mut names, mut values) = (names.unwrap_or_default(), values.unwrap_or_default());
    let before = names.secrets.len() + values.len();
    names.secrets.retain(|id, entry| !entry.lies_in(folder) || values.contains_key(id));
    values.retain(|id, _| names.secrets.contains_key(id));
    let halves = before - names.secrets.len() - values.len();
    let Names { secrets, by_name, by_id, .. } = &mut names;
    by_name.retain(|_, id| secrets.contains_key(id));
    by_id.retain(|id, _| secrets.contains_key(id));
    let well = !names_torn && !values_torn && halves == 0;
    (!well).then_some(Whole { names, values, names_torn, values_torn, halves })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(text)
}

impl Entry {
    /// Whether its value is one of those in this folder.
    fn lies_in(&self, folder: &Path) -> bool {
        let path = self.options.as_ref().and_then(|options| options.get("path"));
        self.driver == "file" && path.is_some_and(|path| Path::new(path) == folder)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const FOLDER: &str = "/home/a/secrets/filedriver";

    /// As Podman writes them: these secrets, and one of another driver's.
    fn files(names: &[&str], values: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let entry = |name: &str| {
            json!({ "name": name, "id": format!("id-{name}"), "createdAt": "2026-11-26T07:20:33Z",
                "driver": "file", "driverOptions": { "path": FOLDER } })
        };
        let id = |name: &&str| format!("id-{name}");
        let mut secrets: Map<_, _> = names.iter().map(|name| (id(name), entry(name))).collect();
        let mut ids: BTreeMap<_, _> =
            names.iter().map(|name| (name.to_string(), id(name))).collect();
        secrets.insert(
            "id-gpg".to_owned(),
            json!({ "name": "gpg", "driver": "pass", "driverOptions": {} }),
        );
        ids.insert("gpg".to_owned(), "id-gpg".to_owned());
        let by_id: BTreeMap<_, _> = ids.iter().map(|(name, id)| (id, name)).collect();
        let names = json!({ "secrets": secrets, "nameToID": ids, "idToName": by_id, "new": 1 });
        let values: BTreeMap<_, _> = values.iter().map(|name| (id(name), "djE=")).collect();
        (names.to_string().into_bytes(), serde_json::to_vec(&values).unwrap())
    }

    fn mended(names: &[u8], values: &[u8]) -> Option<Whole> {
        mend(Some(names), Some(values), Path::new(FOLDER))
    }

    /// Names of secrets, and of values.
    fn left(whole: &Whole) -> (Vec<&str>, Vec<&str>) {
        let by_id = whole.names.by_id.values().map(String::as_str);
        let values = whole.values.keys().map(|id| id.trim_start_matches("id-"));
        (by_id.collect(), values.collect())
    }

    #[test]
    fn intact_files_are_not_changed() {
        let (names, values) = files(&["a", "b"], &["a", "b"]);
        assert_eq!(mended(&names, &values), None);
        assert_eq!(mend(None, None, Path::new(FOLDER)), None);
    }

    #[test]
    fn fm_19_incomplete_secrets_are_removed_and_the_others_kept() {
        let (names, values) = files(&["a", "b", "removed"], &["a", "b", "unnamed"]);
        let whole = mended(&names, &values).unwrap();
        assert_eq!(left(&whole), (vec!["a", "b", "gpg"], vec!["a", "b"]));
        assert_eq!((whole.halves, whole.names_torn, whole.values_torn), (2, false, false));
        // Podman reads what it wrote itself, and what it may write in future versions.
        let text = serde_json::to_value(&whole.names).unwrap();
        assert_eq!(text["secrets"]["id-a"]["createdAt"], "2026-11-26T07:20:33Z");
        assert_eq!((&text["nameToID"]["a"], &text["new"]), (&json!("id-a"), &json!(1)));
    }

    #[test]
    fn fm_19_without_values_only_names_of_other_drivers_are_left() {
        let (names, values) = files(&["a"], &["a"]);
        let whole = mended(&names, b"").unwrap();
        assert_eq!(left(&whole), (vec!["gpg"], vec![]));
        assert!(whole.values_torn && !whole.names_torn);
        let whole = mended(b"{\"secrets\": {\"id-a\": {\"na", &values).unwrap();
        assert_eq!(left(&whole), (vec![], vec![]));
        assert!(whole.names_torn && !whole.values_torn);
        // The file was deleted, as by hand.
        let whole = mend(Some(&names), None, Path::new(FOLDER)).unwrap();
        assert_eq!(left(&whole), (vec!["gpg"], vec![]));
    }

    proptest! {
        /// Either file, cut anywhere or followed by zeros as after a power loss: the result is
        /// consistent.
        #[test]
        fn fm_19_any_torn_file_is_consistent_after_repair(
            cut: proptest::sample::Index, zeros in 0..3_usize, of_names: bool, unnamed: bool, unvalued: bool,
        ) {
            let known: &[&str] = if unvalued { &["a", "b", "c"] } else { &["a", "b"] };
            let kept: &[&str] = if unnamed { &["a", "b", "d"] } else { &["a", "b"] };
            let (mut names, mut values) = files(known, kept);
            let torn = if of_names { &mut names } else { &mut values };
            torn.truncate(cut.index(torn.len()));
            torn.resize(torn.len() + zeros, 0);
            let whole = mended(&names, &values).expect("it is torn");
            prop_assert_eq!((whole.names_torn, whole.values_torn), (of_names, !of_names));
            let again = |whole: &Whole| {
                let names = serde_json::to_vec(&whole.names).unwrap();
                let values = serde_json::to_vec(&whole.values).unwrap();
                mended(&names, &values)
            };
            prop_assert_eq!(again(&whole), None);
            prop_assert!(whole.values.is_empty());
        }
    }
}
