//! Container ports.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// A TCP port from 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port an app is expected to listen on if its operator names none.
    pub const DEFAULT: Self = Self(match NonZeroU16::new(3000) {
        Some(port) => port,
        None => unreachable!(),
    });

    /// The plain number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

/// Why a number is not a [`Port`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is {0}; use the port your app listens on, 1 to 65535")]
pub struct PortError(pub i64);

impl TryFrom<i64> for Port {
    type Error = PortError;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        u16::try_from(number).ok().and_then(NonZeroU16::new).map(Self).ok_or(PortError(number))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_ports_1_to_65535() {
        assert_eq!(Port::try_from(0), Err(PortError(0)));
        assert_eq!(Port::try_from(1).unwrap().get(), 1);
        assert_eq!(Port::try_from(65_535).unwrap().get(), 65_535);
        assert!(Port::try_from(65_536).is_err());
        assert!(Port::try_from(-1).is_err());
    }
}
