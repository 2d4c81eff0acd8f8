//! Podman's images.

use super::ContainersError;
use crate::model::container::LocalImage;

/// Podman's image storage, as far as the image GC needs it. Every call has a deadline.
pub trait Images: Send + Sync + 'static {
    fn images(&self) -> impl Future<Output = Result<Vec<LocalImage>, ContainersError>> + Send;
    /// Removes an image unless a container uses it: never by force. Succeeds if it is absent.
    fn remove_image(
        &self,
        image: &LocalImage,
    ) -> impl Future<Output = Result<(), ContainersError>> + Send;
}
