use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::host_wire::manifest::tests::deployment;
use crate::host_wire::manifest::{DeploymentSpec, Services};
use crate::model::id::{Generation, Revision};
use crate::model::name::HostName;

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
fn a_signed_document_verifies() {
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
fn known_jws_header_attacks_are_refused() {
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
fn another_schema_says_what_to_upgrade() {
    let (signer, verifier) = pair();
    let refusal = |schema| {
        let envelope = signer.sign(&Manifest { schema, ..manifest(host(1)) }).unwrap();
        verifier.verify(&envelope.bytes).unwrap_err()
    };
    assert_eq!(refusal(SCHEMA + 1), VerifyError::NewerSchema(SCHEMA + 1));
    assert_eq!(refusal(1), VerifyError::OlderSchema(1));
    assert_eq!(refusal(1).code(), "older_schema");
    assert_eq!(
        refusal(1).to_string(),
        "the document has schema 1, this agent reads 2: it was written by a coordinator older \
         than this agent; upgrade both to the same version"
    );
}

/// The deployments of schema 1 do not decode as those of schema 2, and the refusal must not be
/// about that.
#[test]
fn a_document_of_schema_1_is_refused_by_its_number() {
    let (signer, verifier) = pair();
    let header = Header {
        typ: Some(TYPE.to_owned()),
        kid: Some(signer.public.kid.clone()),
        ..Header::new(Algorithm::EdDSA)
    };
    let payload = serde_json::json!({ "schema": 1, "deployments": [{ "image": "x.io/a" }] });
    let signed = Flattened::sign(&header, &payload, &signer.key).unwrap();
    let envelope = serde_json::to_vec(&signed).unwrap();
    assert_eq!(verifier.verify(&envelope), Err(VerifyError::OlderSchema(1)));
}

/// Signing it does not make it right: shape is checked where it is read.
#[test]
fn a_deployment_of_the_wrong_shape_is_refused() {
    let (signer, verifier) = pair();
    let good = deployment(1);
    let sign = |deployment: DeploymentSpec| {
        let deployments = vec![deployment];
        let envelope = signer.sign(&Manifest { deployments, ..manifest(host(1)) }).unwrap();
        verifier.verify(&envelope.bytes)
    };
    assert_eq!(sign(good.clone()).unwrap().get().deployments, std::slice::from_ref(&good));
    let mut service = good.services.public().clone();
    service.revision = Revision::new(2);
    let services = Services::try_from(vec![service]).unwrap();
    let refused = sign(DeploymentSpec { services, ..good }).unwrap_err();
    assert_eq!(refused.code(), "malformed_payload");
    assert!(refused.to_string().contains("has the service app of revision 2 in revision 1"));
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
fn a_document_that_would_lock_the_host_out_is_refused() {
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
