//! Keeps a document within the limit that hosts accept, by leaving out what apps can run without:
//! first the images needed only for a rollback, then the fallbacks of auto rollbacks. Pure.
//!
//! The rest always fits: the scheduler places no app on a host whose document would not hold
//! its entry ([`MAX_DOCUMENT_BYTES`](crate::domain::scheduler::MAX_DOCUMENT_BYTES)).

use std::io::{self, Write};

use buddo_shared::host_wire::manifest::DeploymentSpec;
use buddo_shared::host_wire::signed::MAX_ENVELOPE;
use serde::Serialize;

/// Bytes for everything but the deployments: header, signature, and the trusted keys and CAs, at
/// most four CAs of 16 KiB each.
const AROUND: usize = 128 * 1024;

/// Maximum bytes of all deployments together: the envelope holds them in base64.
pub(super) const MAX_PAYLOAD: usize = (MAX_ENVELOPE - AROUND) / 4 * 3;

/// What was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) auto_rollbacks: usize,
    pub(super) images: usize,
}

/// Leaves out what does not fit into `most` bytes.
pub(super) fn fit(deployments: &mut [DeploymentSpec], most: usize) -> LeftOut {
    let mut left_out = LeftOut::default();
    // Two brackets, and a comma between entries.
    let mut bytes = length(&*deployments);
    if bytes <= most {
        return left_out;
    }
    // Newest first: deployments that have served longest are rolled back least.
    for deployment in deployments.iter_mut().rev() {
        if !deployment.kept_images.is_empty() {
            let before = length(deployment);
            deployment.kept_images = Vec::new();
            bytes -= before - length(deployment);
            left_out.images += 1;
        }
        if bytes <= most {
            return left_out;
        }
    }
    for deployment in deployments.iter_mut().rev() {
        if deployment.auto_rollback.is_some() {
            let before = length(deployment);
            deployment.auto_rollback = None;
            bytes -= before - length(deployment);
            left_out.auto_rollbacks += 1;
        }
        if bytes <= most {
            return left_out;
        }
    }
    left_out
}

/// Length of the value as JSON. One that cannot be serialised is refused when it is signed.
fn length(value: &(impl Serialize + ?Sized)) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

#[cfg(test)]
mod tests {
    use buddo_shared::host_wire::manifest::{
        AutoRollback, Fallback, Manifest, RunState, SCHEMA, ServiceSpec, Services, Strategy,
    };
    use buddo_shared::host_wire::sealed::{OpeningKey, Sealed, SealingKey};
    use buddo_shared::host_wire::signed::{Signer, Verifier};
    use buddo_shared::model::id::{DeploymentId, Generation, HostId, Revision};
    use buddo_shared::model::image::{Digest, ImageReference};
    use buddo_shared::model::limits::Limits;
    use buddo_shared::model::name::{HostName, Subdomain};
    use buddo_shared::model::port::Port;
    use buddo_shared::model::probe::Probe;
    use buddo_shared::model::secret::Secret;
    use buddo_shared::model::workload::{ServiceName, SpecDigest};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::capacity::{DESIRED_BYTES, Demand, Load};
    use crate::domain::scheduler::{MAX_DOCUMENT_BYTES, MAX_ENV_BYTES};

    /// The longest possible reference.
    fn image() -> ImageReference {
        let path = "a".repeat(255 - "ghcr.io/".len());
        ImageReference::parse(&format!("ghcr.io/{path}:{}", "t".repeat(128))).unwrap()
    }

    fn digest() -> Digest {
        Digest::parse(&format!("sha256:{}", "f".repeat(64))).unwrap()
    }

    fn domain() -> HostName {
        let label = "d".repeat(61);
        HostName::parse(&format!("{label}.{label}.{label}.{label}.com")).unwrap()
    }

    /// The largest possible entry with an environment of that many bytes.
    fn desired(
        n: u128,
        key: &SealingKey,
        env: usize,
        images: usize,
        watched: bool,
    ) -> DeploymentSpec {
        let id = DeploymentId::new(Uuid::from_u128(n));
        let plain = Secret::new("e".repeat(env));
        let env = Some(Sealed::seal(key, Sealed::ENVIRONMENT, id, &plain).unwrap());
        let app = ServiceSpec {
            name: "s".repeat(ServiceName::MAX_LENGTH).parse().unwrap(),
            revision: Revision::new(u32::MAX - 1),
            spec: SpecDigest::from_bytes(&[255; 32]),
            replicas: ServiceSpec::MAX_REPLICAS,
            public: true,
            image: image(),
            digest: Some(digest()),
            port: Port::try_from(65_535).unwrap(),
            limits: Limits { memory_mb: u32::MAX, cpu_millicores: u32::MAX, pids: u32::MAX },
            probe: Probe::default(),
            strategy: Strategy::Recreate,
            env,
            registry_credentials: None,
        };
        let services = Services::try_from(vec![app]).unwrap();
        let fallback =
            Fallback { revision: Revision::new(u32::MAX - 1), services: services.clone() };
        DeploymentSpec {
            id,
            revision: Revision::new(u32::MAX),
            subdomain: Subdomain::parse(&"s".repeat(32)).unwrap(),
            run: RunState::Suspended,
            domains: vec![domain()],
            services,
            auto_rollback: watched.then(|| Box::new(AutoRollback { seconds: 86_400, fallback })),
            kept_images: vec![image().pinned(&digest()); images],
        }
    }

    #[test]
    fn the_largest_entry_fits_its_placement_estimate() {
        let (_, key) = OpeningKey::generate().unwrap();
        for env in [0, 1, 1000, 131_072] {
            let bytes = length(&desired(1, &key, env, 0, false));
            let load = Load::default().with(Demand { memory_mb: 1, env_bytes: env as u64 });
            assert!(bytes as u64 <= load.document_bytes(), "{env}: {bytes}");
            assert!(bytes > env, "and not by much: {DESIRED_BYTES}");
        }
    }

    #[test]
    fn the_document_of_a_full_host_can_be_signed_and_verified() {
        let (_, key) = OpeningKey::generate().unwrap();
        let (env, images) = (4000, 10);
        let mut load = Load::default();
        let mut deployments = Vec::new();
        loop {
            let more = load.with(Demand { memory_mb: 1, env_bytes: env as u64 });
            let full = more.env_bytes > MAX_ENV_BYTES || more.document_bytes() > MAX_DOCUMENT_BYTES;
            if full {
                break;
            }
            load = more;
            deployments.push(desired(deployments.len() as u128, &key, env, images, true));
        }
        assert!(deployments.len() > 1900, "{}", deployments.len());
        assert!(length(&deployments) > MAX_PAYLOAD, "or there is nothing to see here");
        let left_out = fit(&mut deployments, MAX_PAYLOAD);
        assert!(left_out.images > 0);
        let (host, signer) = (HostId::new(Uuid::from_u128(1)), Signer::generate().unwrap());
        let envelope = signer
            .sign(&Manifest {
                schema: SCHEMA,
                host_id: host,
                generation: Generation { epoch: u64::MAX, generation: u64::MAX },
                issued_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::UNIX_EPOCH,
                zone: domain(),
                deployments,
                trust: None,
            })
            .unwrap();
        assert!(envelope.bytes.len() + AROUND <= MAX_ENVELOPE + 2048, "{}", envelope.bytes.len());
        Verifier::new(host, &[signer.public().clone()]).unwrap().verify(&envelope.bytes).unwrap();
    }

    proptest! {
        /// Nothing that apps need to run is touched, no more is left out than necessary, and images
        /// go before fallbacks.
        #[test]
        fn only_optional_parts_are_left_out(
            shapes in prop::collection::vec((0..50usize, 0..4usize, any::<bool>()), 1..12),
            per_cent in 0..110usize,
        ) {
            let (_, key) = OpeningKey::generate().unwrap();
            let all: Vec<DeploymentSpec> = (0..)
                .zip(shapes)
                .map(|(n, (env, images, watched))| desired(n, &key, env, images, watched))
                .collect();
            let most = length(&all) * per_cent / 100;
            let mut fitted = all.clone();
            let left_out = fit(&mut fitted, most);
            let bare = |one: &DeploymentSpec| {
                DeploymentSpec { auto_rollback: None, kept_images: vec![], ..one.clone() }
            };
            for (before, after) in all.iter().zip(&fitted) {
                prop_assert_eq!(bare(before), bare(after));
            }
            let without: Vec<_> = all.iter().map(bare).collect();
            prop_assert!(length(&fitted) <= most.max(length(&without)));
            prop_assert_eq!(left_out == LeftOut::default(), fitted == all);
            let no_images = fitted.iter().all(|one| one.kept_images.is_empty());
            prop_assert!(left_out.auto_rollbacks == 0 || no_images);
        }
    }
}
