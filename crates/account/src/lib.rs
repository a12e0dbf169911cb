//! People: credentials, sessions, devices, profiles, account data.
