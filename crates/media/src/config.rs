//! Settings of the media repository. The server's configuration file has these under `[media]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MEBIBYTE: u64 = 1024 * 1024;
const GIBIBYTE: u64 = 1024 * MEBIBYTE;

/// Settings of the media repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest file that may be uploaded, in bytes. Clients are told this number. Default: 52428800 (50 MiB).
    /// Raise it for people who share videos. Needs a restart.
    pub upload_bytes_max: u64,

    /// How many bytes one account may keep here, all its uploads together. Default: 10737418240 (10 GiB).
    /// Lower it when registration is open to strangers. Needs a restart.
    pub account_bytes_max: u64,

    /// Whether the old download addresses, which ask for no access token, are served. Default: true, because clients
    /// from before Matrix 1.11 and most bridges know no others. Set it to false when knowing the address of a file
    /// should not be enough to fetch it. Needs a restart.
    pub unauthenticated_download: bool,

    /// Largest picture that is scaled down, in pixels (width times height). Default: 33554432 (32 million). A picture
    /// takes four bytes of memory for each pixel while it is scaled, however small its file is. Needs a restart.
    pub thumbnail_pixels_max: u32,

    /// Largest file of another server that is fetched for somebody of ours, in bytes. Default: 104857600 (100 MiB). Needs
    /// a restart.
    pub remote_bytes_max: u64,

    /// How many bytes the files of other servers may take, all together. Default: 10737418240 (10 GiB). Beyond it those
    /// go that nobody asked for longest; they are fetched again when somebody does. Needs a restart.
    pub remote_cache_bytes_max: u64,

    /// How many days a file of another server is kept after somebody asked for it. Default: 30. Needs a restart.
    pub remote_days: u32,

    /// Whether pages that messages point to are fetched for a preview. Default: true. The server then connects to
    /// whatever address somebody with an account names, but never to one that is not part of the internet. Needs a
    /// restart.
    pub previews: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upload_bytes_max: 50 * MEBIBYTE,
            account_bytes_max: 10 * GIBIBYTE,
            unauthenticated_download: true,
            thumbnail_pixels_max: 32 * 1024 * 1024,
            remote_bytes_max: 100 * MEBIBYTE,
            remote_cache_bytes_max: 10 * GIBIBYTE,
            remote_days: 30,
            previews: true,
        }
    }
}
