//! Blobs: upload, download, thumbnails; content by hash on disk.
