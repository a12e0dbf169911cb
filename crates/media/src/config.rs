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

    /// A bucket that holds the files, for servers whose disk is too small for them.
    pub bucket: BucketConfig,
}

/// A bucket for media: any store that speaks the API of Amazon's S3, such as MinIO, Garage or Ceph. The folder in
/// `data_dir` then holds only what was asked for lately. Files that are in the folder when a bucket is named first are not
/// moved there: copy `media/<number>/content/` to `<prefix>/<number>/content/` in the bucket before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BucketConfig {
    /// Its name. Default: empty, and files lie in `data_dir`. Needs a restart.
    pub name: String,

    /// Where the store is reached, as "https://s3.example.org". Default: empty, and it is Amazon's of the region. Needs a
    /// restart.
    pub endpoint: String,

    /// The region. Default: "us-east-1", which stores without regions take as well. Needs a restart.
    pub region: String,

    /// Whether the bucket is part of the host's name (`https://media.s3.example.org/…`) instead of the path. Default:
    /// false. Needs a restart.
    pub host_style: bool,

    /// What goes before the names of all files. Default: empty. Several servers may share a bucket with a prefix of their
    /// own each. Needs a restart.
    pub prefix: String,

    /// Who we are there. Default: empty. Needs a restart.
    pub access_key_id: String,

    /// The secret that belongs to it. Default: empty. Needs a restart.
    pub secret_access_key: String,

    /// How many bytes of the bucket's files the folder may hold as well, so that they need not be fetched again. Looked
    /// after every hour. Default: 5368709120 (5 GiB). Needs a restart.
    pub cache_bytes_max: u64,
}

impl Default for BucketConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            host_style: false,
            prefix: String::new(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            cache_bytes_max: 5 * GIBIBYTE,
        }
    }
}

impl std::fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret is not printed.
        f.debug_struct("BucketConfig")
            .field("name", &self.name)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
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
            bucket: BucketConfig::default(),
        }
    }
}
