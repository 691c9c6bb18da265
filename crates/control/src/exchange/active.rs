//! The key is negotiated; text messages travel.

use super::hello::KeySources;
use crate::tls::Tls;

/// Ready for text messages and for making data keys.
pub(crate) struct Active {
    pub(super) tls: Tls,
    pub(super) sources: KeySources,
}
