//! `koine quickstart DOMAIN`: writes the configuration of a public server and says what else is to be done.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use ruma_common::OwnedServerName;

use crate::config::{self, Config};

/// Where the service keeps its data and reads its configuration on a public server.
const DATA_DIR: &str = "/var/lib/koine";
const CONFIG_FILE: &str = "/etc/koine/koine.toml";

/// Writes a configuration for a public server and prints DNS records, the service file and the next steps
#[derive(Debug, Args)]
pub struct Quickstart {
    /// The domain in people's ids, as example.org for @alice:example.org
    domain: OwnedServerName,
    /// Where the configuration is written
    #[arg(long, value_name = "FILE", default_value = "koine.toml")]
    output: PathBuf,
}

/// Why there is no configuration now.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// There is one already, and it is not overwritten.
    #[error("{} is there already; move it away, or choose another file with --output", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        reason: io::Error,
    },
    /// `localhost:8448` is no domain.
    #[error("{0} names a port or an address; ids begin to live with a domain of your own, as example.org")]
    NotADomain(OwnedServerName),
}

impl Quickstart {
    /// Writes the file; what it returns is for standard output.
    pub fn run(self) -> Result<String, QuickstartError> {
        if self.domain.port().is_some() || self.domain.is_ip_literal() {
            return Err(QuickstartError::NotADomain(self.domain));
        }
        let mut config = Config::new(self.domain.clone());
        config.data_dir = DATA_DIR.into();
        config.public_base_url = Some(format!("https://matrix.{}", self.domain));
        // The plain listener is for the proxy that ends TLS; without this all clients would share its address.
        config.listeners.iter_mut().filter(|listener| !listener.tls).for_each(|listener| listener.behind_proxy = true);
        write_new(&self.output, &config::annotate(&config))?;
        Ok(next_steps(&self.domain, &self.output))
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), QuickstartError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|reason| match reason.kind() {
        io::ErrorKind::AlreadyExists => QuickstartError::Exists(path.to_owned()),
        _ => QuickstartError::Write { path: path.to_owned(), reason },
    })
}

fn next_steps(domain: &OwnedServerName, written: &Path) -> String {
    let written = written.display();
    format!(
        r#"The configuration for {domain} is in {written}. Every setting is explained there.

1. DNS: two records (198.51.100.1 stands for the address of this machine)

     matrix.{domain}.             IN A    198.51.100.1
     _matrix-fed._tcp.{domain}.   IN SRV  10 0 8448 matrix.{domain}.

2. A certificate: get one for matrix.{domain} and {domain} (certbot, lego, your proxy), and name its two files under [tls].
   A reverse proxy that ends TLS for https://matrix.{domain} passes everything to http://127.0.0.1:8008. Clients find it when
   https://{domain}/.well-known/matrix/client is passed there too.

3. The service: save this as /etc/systemd/system/koine.service

     [Unit]
     Description=Koine, federated messaging for {domain}
     After=network-online.target
     Wants=network-online.target

     [Service]
     ExecStart=/usr/local/bin/koine serve --config {CONFIG_FILE}
     ExecReload=/bin/kill -HUP $MAINPID
     User=koine
     StateDirectory=koine
     StateDirectoryMode=0700
     Restart=on-failure
     LimitNOFILE=65536
     NoNewPrivileges=true
     ProtectSystem=strict
     ProtectHome=true
     PrivateTmp=true

     [Install]
     WantedBy=multi-user.target

4. Start it

     useradd --system --home-dir {DATA_DIR} koine
     install -D -m 640 -g koine {written} {CONFIG_FILE}
     koine config check --config {CONFIG_FILE}
     systemctl enable --now koine

5. The first account, as root

     koine user create alice --config {CONFIG_FILE}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quickstart(domain: &str, output: &Path) -> Result<String, QuickstartError> {
        Quickstart { domain: domain.try_into().expect("a server name"), output: output.to_owned() }.run()
    }

    #[test]
    fn the_configuration_that_is_written_can_be_read() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("koine.toml");
        let text = quickstart("example.org", &path).expect("a free file");
        assert!(text.contains("_matrix-fed._tcp.example.org."));
        let config = Config::load(&path).expect("what we wrote ourselves");
        assert_eq!(config.public_base_url.as_deref(), Some("https://matrix.example.org"));
        assert_eq!(config.data_dir, Path::new(DATA_DIR));
    }

    #[test]
    fn a_configuration_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("koine.toml");
        quickstart("example.org", &path).expect("a free file");
        assert!(matches!(quickstart("example.net", &path), Err(QuickstartError::Exists(_))));
        assert_eq!(Config::load(&path).expect("the first").server_name, "example.org");
    }

    #[test]
    fn an_address_is_no_domain() {
        let path = Path::new("unused.toml");
        for name in ["example.org:8448", "127.0.0.1"] {
            assert!(matches!(quickstart(name, path), Err(QuickstartError::NotADomain(_))), "{name}");
        }
    }
}
