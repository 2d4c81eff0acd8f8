//! `make test-vm`: the packages on a plain Debian with systemd and cgroup v2, in a virtual machine,
//! where units boot and limits are enforced, unlike in a [world](crate::world).
//!
//! ```text
//! this machine                                    the virtual machine (qemu)
//!   suite ── ssh ─────────────────────────────────► packages, buddo, systemctl …
//!         ── HTTPS, forwarded ports ──────────────► coordinator :8443, Caddy :443
//!   registry, ACME authority on loopback ◄── 10.0.2.2 ── Podman, Caddy
//! ```

mod checks;
pub mod disk;
pub mod host;
pub mod machine;
pub mod outside;
pub mod report;
pub mod ssh;

pub use checks::run;
pub use disk::{Debian, Disk};
