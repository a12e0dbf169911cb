//! Who must be told: push rules, unread counts.
