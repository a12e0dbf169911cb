//! Application services: the files that make them known.

use std::{io, path::PathBuf};

use koine_matrix_api::{NotApart, Registration, RegistrationError, Services};
use koine_net::Client;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::program::Server;

/// Bridges and bots of Matrix.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppservicesConfig {
    /// Files with the registrations of application services (bridges and bots of Matrix), as those make them (YAML).
    /// Default: none. Whoever has the token of a registration acts as every user of its namespaces, so keep the files as
    /// secret as passwords. Needs a restart.
    pub registrations: Vec<PathBuf>,
}

/// Why the application services cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A file cannot be read.
    #[error("cannot read the registration {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// A file is not understood.
    #[error("the registration {}: {reason}", path.display())]
    Registration {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: RegistrationError,
    },
    /// Two cannot be told apart.
    #[error("{0}")]
    NotApart(#[from] NotApart),
}

/// Reads the registrations.
pub fn open(server: &Server, client: Client) -> Result<Services, ServicesError> {
    let mut registrations = Vec::new();
    for path in &server.config.appservices.registrations {
        let yaml =
            std::fs::read_to_string(path).map_err(|reason| ServicesError::File { path: path.clone(), reason })?;
        let registration = Registration::parse(&yaml, &server.config.server_name)
            .map_err(|reason| ServicesError::Registration { path: path.clone(), reason })?;
        registrations.push(registration);
    }
    Ok(Services::new(registrations, client)?)
}
