//! A corpus of attacks: documents manipulated without the signing key, or misused genuine ones.
//! None may be accepted as anything but what was signed.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::tests::{host, manifest, pair, with_header};
use super::*;
use crate::model::id::Generation;

/// What the attacker has seen, and its target.
struct Field {
    signer: Signer,
    verifier: Verifier,
    /// Signed for the target host.
    seen: Vec<u8>,
    /// Signed for it later.
    later: Vec<u8>,
    thief: Signer,
}

static FIELD: LazyLock<Field> = LazyLock::new(|| {
    let (signer, verifier) = pair();
    let sign = |generation| {
        let generation = Generation { epoch: 1, generation };
        signer.sign(&Manifest { generation, ..manifest(host(1)) }).unwrap().bytes
    };
    let (seen, later) = (sign(7), sign(8));
    Field { verifier, seen, later, thief: Signer::generate().unwrap(), signer }
});

/// One attack. Each yields bytes that were never signed, or not for this host.
#[derive(Debug, Clone)]
enum Attack {
    /// A byte is changed.
    Change(Index, u8),
    /// The end is cut off.
    Truncate(Index),
    /// A byte is put in.
    Insert(Index, u8),
    /// A piece is taken out.
    Remove(Index, u8),
    /// A member comes from another genuine document.
    Splice(&'static str),
    /// A member appears twice.
    Twice(&'static str),
    /// A member in addition to the three.
    Extra(String),
    /// A member is of another type.
    Retype(&'static str, u8),
    /// The same bytes in another base64 spelling.
    Respell(&'static str, bool),
    /// Signed by another key, under its own id or the pinned one.
    Resign(bool),
    /// Another header, under a valid signature of the pinned key.
    Header(u8, String),
    /// Genuine, for another host.
    Foreign(u128),
    /// Genuine, but its trust locks its signer out.
    Usurp(u8),
    /// Deeply nested brackets.
    Deep(u16),
    /// Random bytes.
    Noise(Vec<u8>),
}

const MEMBERS: [&str; 3] = ["protected", "payload", "signature"];

fn member() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&MEMBERS[..])
}

fn attack() -> impl Strategy<Value = Attack> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Attack::Change(at, byte)),
        2 => at().prop_map(Attack::Truncate),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Attack::Insert(at, byte)),
        2 => (at(), any::<u8>()).prop_map(|(at, length)| Attack::Remove(at, length)),
        1 => member().prop_map(Attack::Splice),
        1 => member().prop_map(Attack::Twice),
        1 => "[a-z]{1,12}".prop_map(Attack::Extra),
        1 => (member(), 0..4u8).prop_map(|(name, kind)| Attack::Retype(name, kind)),
        1 => (member(), any::<bool>()).prop_map(|(name, url)| Attack::Respell(name, url)),
        1 => any::<bool>().prop_map(Attack::Resign),
        2 => (0..6u8, "[ -~]{0,20}").prop_map(|(kind, text)| Attack::Header(kind, text)),
        1 => (2..u128::MAX).prop_map(Attack::Foreign),
        1 => (0..4u8).prop_map(Attack::Usurp),
        1 => any::<u16>().prop_map(Attack::Deep),
        1 => prop::collection::vec(any::<u8>(), 0..2_000).prop_map(Attack::Noise),
    ]
}

fn edited(field: &Field, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut json = serde_json::from_slice(&field.seen).unwrap();
    edit(&mut json);
    serde_json::to_vec(&json).unwrap()
}

fn make(field: &Field, attack: &Attack) -> Vec<u8> {
    let mut bytes = field.seen.clone();
    match attack {
        Attack::Change(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Attack::Truncate(at) => bytes.truncate(at.index(field.seen.len())),
        Attack::Insert(at, byte) => bytes.insert(at.index(field.seen.len()), *byte),
        Attack::Remove(at, length) => {
            let from = at.index(bytes.len());
            let to = (from + 1 + usize::from(*length)).min(bytes.len());
            bytes.drain(from..to);
        }
        Attack::Splice(name) => {
            let other: Value = serde_json::from_slice(&field.later).unwrap();
            // The headers of two genuine documents are the same: nothing to splice.
            let name = if *name == "protected" { "payload" } else { name };
            return edited(field, |json| json[name] = other[name].clone());
        }
        Attack::Twice(name) => {
            let json: Value = serde_json::from_slice(&bytes).unwrap();
            let more = format!(r#"{{"{name}":{},"#, json[name]);
            bytes.splice(0..1, more.into_bytes());
        }
        Attack::Extra(name) => return edited(field, |json| json[format!("x{name}")] = json!("")),
        Attack::Retype(name, kind) => {
            let value = [json!(null), json!(7), json!([]), json!({})][usize::from(*kind)].clone();
            return edited(field, |json| json[*name] = value);
        }
        Attack::Respell(name, url) => {
            return edited(field, |json| {
                let plain = BASE64.decode(json[*name].as_str().unwrap()).unwrap();
                let text = if *url {
                    BASE64_URL_SAFE.encode(&plain)
                } else {
                    format!("{}=", BASE64_STANDARD.encode(&plain))
                };
                // If there is no padding to add, a line break has the same effect.
                let same = json[*name] == text.as_str();
                json[*name] = if same { format!("{text}\n") } else { text }.into();
            });
        }
        Attack::Resign(own) => {
            if *own {
                return field.thief.sign(&manifest(host(1))).unwrap().bytes;
            }
            let kid = &field.signer.public().kid;
            return with_header(
                &field.thief,
                &format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{kid}"}}"#),
            );
        }
        Attack::Header(kind, text) => {
            let text = text.replace(['"', '\\'], "");
            let kid = &field.signer.public().kid;
            let header = match kind {
                0 => json!({ "alg": format!("x{text}"), "typ": TYPE, "kid": kid }),
                1 => json!({ "alg": "EdDSA", "typ": format!("x{text}"), "kid": kid }),
                2 => json!({ "alg": "EdDSA", "typ": TYPE, "kid": format!("x{text}") }),
                3 => json!({ "alg": "EdDSA", "typ": TYPE, "kid": kid, "crit": [text] }),
                4 => json!({ "alg": "EdDSA", "typ": TYPE, "kid": kid, "jku": text }),
                _ => json!({ "alg": "EdDSA", "typ": TYPE }),
            };
            return with_header(&field.signer, &header.to_string());
        }
        Attack::Foreign(n) => return field.signer.sign(&manifest(host(*n))).unwrap().bytes,
        Attack::Usurp(kind) => {
            let thief = field.thief.public().clone();
            let alias = PublicKey { kid: field.signer.public().kid.clone(), ..thief.clone() };
            let signing_keys = match kind {
                0 => vec![],
                1 => vec![thief],
                2 => vec![alias],
                _ => vec![field.signer.public().clone(), alias],
            };
            let trust = Some(Trust { signing_keys, cas: vec!["ca".to_owned()] });
            return field.signer.sign(&Manifest { trust, ..manifest(host(1)) }).unwrap().bytes;
        }
        Attack::Deep(depth) => bytes = vec![b'['; usize::from(*depth)],
        Attack::Noise(noise) => bytes.clone_from(noise),
    }
    bytes
}

/// The three members as a JSON reader sees them: white space between them carries nothing.
fn members(bytes: &[u8]) -> Option<(String, String, String)> {
    let Flattened { protected, payload, signature } = serde_json::from_slice(bytes).ok()?;
    Some((protected, payload, signature))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Any manipulation of signed bytes is refused, or leaves the content identical.
    #[test]
    fn no_forged_envelope_is_accepted(attack in attack()) {
        let field = &*FIELD;
        let bytes = make(field, &attack);
        if let Ok(accepted) = field.verifier.verify(&bytes) {
            prop_assert_eq!(members(&bytes), members(&field.seen), "accepted: {:?}", attack);
            prop_assert_eq!(accepted.get(), &manifest(host(1)));
        }
    }
}

/// An oversized document is not parsed, so that no attacker decides how much memory is used.
#[test]
fn fm_39_an_oversized_envelope_is_refused_whatever_it_holds() {
    let field = &*FIELD;
    let mut padded = field.seen.clone();
    padded.resize(MAX_ENVELOPE, b' ');
    assert!(field.verifier.verify(&padded).is_ok(), "white space is no change");
    padded.push(b' ');
    assert_eq!(field.verifier.verify(&padded), Err(VerifyError::TooLarge(MAX_ENVELOPE + 1)));
}
