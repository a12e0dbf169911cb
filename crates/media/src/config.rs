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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upload_bytes_max: 50 * MEBIBYTE,
            account_bytes_max: 10 * GIBIBYTE,
            unauthenticated_download: true,
            thumbnail_pixels_max: 32 * 1024 * 1024,
        }
    }
}
