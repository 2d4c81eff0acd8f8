use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::id::Generation;
use crate::name::HostName;

pub(super) fn host(n: u128) -> HostId {
    HostId::new(Uuid::from_u128(n))
}

pub(super) fn manifest(host_id: HostId) -> Manifest {
    Manifest {
        schema: SCHEMA,
        host_id,
        generation: Generation { epoch: 1, generation: 7 },
        issued_at: Timestamp::from_second(1_800_000_000).unwrap(),
        expires_at: Timestamp::from_second(1_800_086_400).unwrap(),
        zone: HostName::parse("buddocloud.com").unwrap(),
        deployments: Vec::new(),
        trust: None,
    }
}

pub(super) fn pair() -> (Signer, Verifier) {
    let signer = Signer::generate().unwrap();
    let verifier = Verifier::new(host(1), std::slice::from_ref(signer.public())).unwrap();
    (signer, verifier)
}

pub(super) fn with_header(signer: &Signer, header: &str) -> Vec<u8> {
    let envelope = signer.sign(&manifest(host(1))).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&envelope.bytes).unwrap();
    let protected = BASE64.encode(header);
    let message = format!("{protected}.{}", json["payload"].as_str().unwrap());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::EdDSA).unwrap();
    json["protected"] = protected.into();
    json["signature"] = signature.into();
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn what_was_signed_is_verified() {
    let (signer, verifier) = pair();
    let signer = Signer::from_text(&signer.to_text()).unwrap();
    let envelope = signer.sign(&manifest(host(1))).unwrap();
    let verified = verifier.verify(&envelope.bytes).unwrap();
    assert_eq!(verified.get(), &manifest(host(1)));
    assert_eq!(verified.digest(), &envelope.digest);
}

#[test]
fn fm_37_another_hosts_document_is_refused() {
    let (signer, verifier) = pair();
    let envelope = signer.sign(&manifest(host(2))).unwrap();
    assert_eq!(verifier.verify(&envelope.bytes), Err(VerifyError::ForeignHost(host(2))));
}

#[test]
fn another_key_is_refused_even_under_the_pinned_id() {
    let (signer, verifier) = pair();
    let thief = Signer::generate().unwrap();
    let stolen = thief.sign(&manifest(host(1))).unwrap();
    assert!(matches!(verifier.verify(&stolen.bytes), Err(VerifyError::UnknownKey(_))));
    let header = format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{}"}}"#, signer.public.kid);
    assert_eq!(verifier.verify(&with_header(&thief, &header)), Err(VerifyError::Signature));
}

#[test]
fn headers_that_other_libraries_fell_for_are_refused() {
    let (signer, verifier) = pair();
    let kid = &signer.public.kid;
    let cases = [
        (format!(r#"{{"alg":"none","typ":"{TYPE}","kid":"{kid}"}}"#), VerifyError::Algorithm),
        (format!(r#"{{"alg":"HS256","typ":"{TYPE}","kid":"{kid}"}}"#), VerifyError::Algorithm),
        (format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#), VerifyError::Type),
        (
            format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{kid}","crit":["b64"]}}"#),
            VerifyError::Header,
        ),
        (
            format!(r#"{{"alg":"EdDSA","typ":"{TYPE}","kid":"{kid}","jwk":{{}}}}"#),
            VerifyError::Header,
        ),
    ];
    for (header, error) in cases {
        assert_eq!(verifier.verify(&with_header(&signer, &header)), Err(error), "{header}");
    }
}

#[test]
fn a_newer_schema_says_upgrade() {
    let (signer, verifier) = pair();
    let newer = Manifest { schema: 2, ..manifest(host(1)) };
    let envelope = signer.sign(&newer).unwrap();
    assert_eq!(verifier.verify(&envelope.bytes), Err(VerifyError::Schema(2)));
}

#[test]
fn fm_39_size_is_capped_before_parsing() {
    let (_, verifier) = pair();
    let bytes = vec![b'['; MAX_ENVELOPE + 1];
    assert_eq!(verifier.verify(&bytes), Err(VerifyError::TooLarge(MAX_ENVELOPE + 1)));
}

#[test]
fn a_pinned_key_must_match_its_thumbprint() {
    let (signer, _) = pair();
    let key = PublicKey { kid: "other".to_owned(), ..signer.public.clone() };
    assert!(Verifier::new(host(1), &[key]).is_err());
}

#[test]
fn a_document_that_would_leave_its_host_deaf_is_refused() {
    let (signer, verifier) = pair();
    let next = Signer::generate().unwrap();
    let key = |signer: &Signer| signer.public().clone();
    let ca = || "-----BEGIN CERTIFICATE-----".to_owned();
    let sign = |signing_keys: Vec<PublicKey>, cas: Vec<String>| {
        let trust = Some(Trust { signing_keys, cas });
        let envelope = signer.sign(&Manifest { trust, ..manifest(host(1)) }).unwrap();
        verifier.verify(&envelope.bytes)
    };
    let both = || vec![key(&signer), key(&next)];
    assert!(sign(both(), vec![ca()]).is_ok());
    let alias = PublicKey { kid: key(&signer).kid, ..key(&next) };
    for (keys, cas) in [
        (vec![], vec![ca()]),
        (vec![key(&next)], vec![ca()]),
        (vec![alias.clone()], vec![ca()]),
        (vec![key(&signer), alias], vec![ca()]),
        (vec![key(&signer); MAX_TRUSTED + 1], vec![ca()]),
        (both(), vec![]),
        (both(), vec![ca(); MAX_TRUSTED + 1]),
        (both(), vec!["x".repeat(MAX_CA + 1)]),
    ] {
        let refused = sign(keys, cas).unwrap_err();
        assert_eq!(refused.code(), "bad_trust", "{refused}");
    }
}
