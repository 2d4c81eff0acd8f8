use buddo_shared::host_wire::join::JoinRequest;
use buddo_shared::host_wire::sealed::OpeningKey;
use jiff::SignedDuration;
use rcgen::{CertificateParams, KeyPair};
use uuid::Uuid;

use super::*;
use crate::crypto::random::SystemRandom;
use crate::service::hosts::join;
use crate::service::hosts::join::HostError;
use crate::testing::World;

const HERE: Binding = Binding([7; 32]);
const NAME: &str = "container-host-1";

/// A host's state directory; a clone is a copy of it.
#[derive(Clone)]
struct Copy {
    id: HostId,
    pkcs8: Vec<u8>,
    number: u32,
    request: Uuid,
}

impl Copy {
    async fn join(world: &World, token: buddo_shared::model::secret::Secret) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let sealing_key = OpeningKey::generate().unwrap().1;
        let address = "127.0.0.1:7443".to_owned();
        let request = JoinRequest { token, csr, sealing_key, address };
        let joined = join::join(&world.state, request).await.unwrap();
        let number = number_in(&joined.certificate);
        let request = Uuid::from_u128(1);
        Self { id: joined.host_id, pkcs8: key.serialize_der(), number, request }
    }

    async fn first(world: &World) -> Self {
        let state = &world.state;
        let made =
            join::invite(&state.store, &state.ca, &SystemRandom, world.clock_now(), NAME, None)
                .await;
        Self::join(world, made.unwrap().token.secret).await
    }

    /// Renews, and stores the answer like a host.
    async fn renew(&mut self, world: &World) -> Result<String, RenewError> {
        let renewed = self.ask(world).await?;
        self.number = number_in(&renewed);
        self.request = Uuid::from_u128(self.request.as_u128() + 1);
        Ok(renewed)
    }

    /// Renews, and loses the answer.
    async fn ask(&self, world: &World) -> Result<String, RenewError> {
        let statement = Statement::new(self.id, self.number, self.request, HERE);
        let body = statement.sign(&self.pkcs8).unwrap();
        renew(&world.state, &body, HERE).await.map(|renewed| renewed.certificate)
    }
}

fn number_in(pem: &str) -> u32 {
    use rustls_pki_types::pem::PemObject as _;
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    buddo_shared::host_wire::join::number_of(certificate.raw_serial()).unwrap()
}

async fn host(world: &World) -> Host {
    join::list(&world.state.store).await.unwrap().remove(0)
}

#[tokio::test]
async fn fm_40_a_host_can_renew_long_after_its_certificate_expired() {
    let world = World::new();
    let mut copy = Copy::first(&world).await;
    assert_eq!(copy.number, 1);
    copy.renew(&world).await.unwrap();
    world.clock.advance(SignedDuration::from_hours(400 * 24));
    copy.renew(&world).await.unwrap();
    let issued = host(&world).await.identity.certificate.unwrap();
    assert_eq!((copy.number, issued.number), (3, 3));
    let left = issued.expires_at.duration_since(world.clock_now());
    assert_eq!(left, SignedDuration::from_hours(30 * 24));
}

#[tokio::test]
async fn a_repeated_renewal_returns_the_same_certificate() {
    let world = World::new();
    let mut copy = Copy::first(&world).await;
    let first = copy.ask(&world).await.unwrap();
    for _ in 0..3 {
        assert_eq!(copy.ask(&world).await.unwrap(), first);
    }
    assert_eq!(copy.renew(&world).await.unwrap(), first);
    copy.renew(&world).await.unwrap();
    assert_eq!((copy.number, host(&world).await.identity.locked_at), (3, None));
}

#[tokio::test]
async fn fm_41_both_copies_of_a_host_are_locked_out_until_one_rejoins() {
    let world = World::new();
    let mut one = Copy::first(&world).await;
    let mut other = one.clone();
    other.request = Uuid::from_u128(1_000);
    one.renew(&world).await.unwrap();
    let refused = other.renew(&world).await.unwrap_err();
    let words = refused.to_string();
    assert!(matches!(refused, RenewError::Locked(_)), "{words}");
    assert!(words.contains("host unlock container-host-1") && words.contains("join"), "{words}");
    // Neither of them, since nobody knows which one is the host.
    assert!(matches!(one.renew(&world).await, Err(RenewError::Locked(_))));
    let locked = host(&world).await;
    assert!(matches!(is_served(&locked), Err(Unserved::Locked(_))));
    // A token is not obtained by accident, and one of them joins with it.
    let state = &world.state;
    let now = world.clock_now();
    let added = join::invite(&state.store, &state.ca, &SystemRandom, now, NAME, None).await;
    assert!(matches!(added, Err(HostError::Locked(_))));
    let made = join::unlock(&state.store, &state.ca, &SystemRandom, now, NAME).await.unwrap();
    assert!(matches!(one.renew(&world).await, Err(RenewError::Locked(_))), "not by the token yet");
    let mut right = Copy::join(&world, made.token.secret).await;
    assert_eq!((right.id, right.number), (one.id, 3));
    right.renew(&world).await.unwrap();
    assert!(is_served(&host(&world).await).is_ok());
    // The other's key now belongs to no host, and does no further harm.
    assert!(matches!(other.renew(&world).await, Err(RenewError::Stranger(_))));
    right.renew(&world).await.unwrap();
    let again = join::unlock(&state.store, &state.ca, &SystemRandom, now, NAME).await;
    assert!(matches!(again, Err(HostError::NotLocked(_))));
}

#[tokio::test]
async fn a_restored_database_locks_no_host_out() {
    let world = World::new();
    let mut copy = Copy::first(&world).await;
    let before = host(&world).await.identity.certificate.unwrap();
    copy.renew(&world).await.unwrap();
    copy.renew(&world).await.unwrap();
    let id = copy.id;
    let restored: Result<(), StoreError> =
        world.state.store.write(move |tables| tables.set_certificate(id, &before)).await;
    restored.unwrap();
    copy.renew(&world).await.unwrap();
    assert_eq!((copy.number, host(&world).await.identity.locked_at), (4, None));
}

#[tokio::test]
async fn strangers_cannot_renew_or_lock_a_host_out() {
    let world = World::new();
    let mut copy = Copy::first(&world).await;
    copy.renew(&world).await.unwrap();
    let (id, request) = (copy.id, Uuid::from_u128(99));
    let thief = KeyPair::generate().unwrap().serialize_der();
    for (number, pkcs8, binding) in [
        // An old number, which would lock the host out, by another key; then replayed from another
        // connection.
        (1, &thief, HERE),
        (1, &copy.pkcs8, Binding([8; 32])),
        (2, &thief, HERE),
    ] {
        let body = Statement::new(id, number, request, binding).sign(pkcs8).unwrap();
        let refused = renew(&world.state, &body, HERE).await;
        assert!(matches!(refused, Err(RenewError::Stranger(_))));
    }
    for body in [&b""[..], b"{}", b"[]", &[b'['; 10_000]] {
        let refused = renew(&world.state, body, HERE).await;
        assert!(matches!(refused, Err(RenewError::Stranger(_))));
    }
    copy.renew(&world).await.unwrap();
}

#[tokio::test]
async fn a_removed_host_cannot_renew_and_a_host_in_use_is_not_removed() {
    let world = World::new();
    let mut copy = Copy::first(&world).await;
    let store = &world.state.store;
    let now = world.clock_now();
    assert!(matches!(join::remove(store, now, "x").await, Err(HostError::Unknown(_))));
    join::remove(store, now, NAME).await.unwrap();
    assert!(join::list(store).await.unwrap().is_empty());
    assert!(matches!(copy.renew(&world).await, Err(RenewError::Stranger(_))));
    assert!(matches!(join::remove(store, now, NAME).await, Err(HostError::Unknown(_))));
    // Its name is free, and refers to the same host as before.
    let again = Copy::first(&world).await;
    assert_eq!((again.id, again.number), (copy.id, 2));
    let status = buddo_shared::host_wire::report::HostStatus {
        agent_version: "0.1.0".to_owned(),
        podman_version: None,
        caddy_version: None,
        document: None,
        stale: false,
        memory_mb: 4096,
        allocatable_mb: None,
        cpu_millicores: 2000,
        warnings: Vec::new(),
        lacks: None,
    };
    let noted: Result<(), StoreError> =
        store.write(move |tables| tables.set_host_status(again.id, &status)).await;
    noted.unwrap();
    let spec = crate::testing::request("my-app");
    world.first_account().await;
    let owner = crate::testing::owner(1);
    crate::testing::deploys::create(&world.state, owner, None, spec, None).await.unwrap();
    let refused = join::remove(store, now, NAME).await;
    assert!(matches!(refused, Err(HostError::InUse { deployments: 1, .. })));
}

#[tokio::test]
async fn no_certificate_is_renewed_while_the_clock_is_in_doubt() {
    let world = World::new();
    let mut copy = Copy::first(&world).await;
    world.clock.jump(SignedDuration::from_hours(72));
    let refused = copy.renew(&world).await.unwrap_err();
    assert!(matches!(refused, RenewError::Clock(_)), "{refused}");
    // It would not be valid yet. The host asks again, and that does not make it a copy.
    world.clock.jump(SignedDuration::from_hours(-72));
    copy.renew(&world).await.unwrap();
}
