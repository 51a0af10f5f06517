//! PostgreSQL for apps under test: `EYEBOLT_TEST_POSTGRES_URL`, through the command `psql`.

use std::{net::SocketAddr, process::Command, sync::Arc};

use eyebolt_types::id::JobId;

/// Runs a test on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($(#[$attribute:meta])* async fn $name:ident($($setup:ident)+: Setup) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn test($($setup)+: Setup) $body

            $(#[$attribute])*
            #[tokio::test]
            async fn sqlite() {
                test(Setup::default()).await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn postgres() {
                test(Setup::on(&crate::database::Schema::new())).await;
            }
        }
    )*};
}
pub(crate) use on_both;

/// A schema of its own, gone with the last app on it.
pub(crate) struct Schema {
    name: String,
    /// Where the app finds the server; none: at its own address.
    through: Option<SocketAddr>,
}

impl Schema {
    pub(crate) fn new() -> Arc<Self> {
        Self::create(None)
    }

    /// The same for an app that reaches the server through this address.
    pub(crate) fn through(address: SocketAddr) -> Arc<Self> {
        Self::create(Some(address))
    }

    fn create(through: Option<SocketAddr>) -> Arc<Self> {
        let name = format!("eyebolt_{}", JobId::new());
        execute(&format!("CREATE SCHEMA {name}"));
        Arc::new(Self { name, through })
    }

    pub(crate) fn url(&self) -> String {
        let mut server = server();
        if let Some(address) = self.through {
            server = server.replacen(authority(&server.clone()), &address.to_string(), 1);
        }
        let separator = if server.contains('?') { '&' } else { '?' };
        format!("{server}{separator}options=-csearch_path%3D{}", self.name)
    }

    /// Runs statements, with the schema's name where they say `SCHEMA.`.
    pub(crate) fn run(&self, statements: &str) {
        execute(&statements.replace("SCHEMA.", &format!("{}.", self.name)));
    }

    /// Host and port of the server.
    pub(crate) fn server_address() -> String {
        let server = server();
        let address = authority(&server);
        if address.contains(':') { address.to_owned() } else { format!("{address}:5432") }
    }
}

/// Host and, where it is told, port.
fn authority(url: &str) -> &str {
    let (_, address) = url.split_once('@').expect("postgres://USER@HOST[:PORT]/DATABASE");
    address.split('/').next().expect("a host")
}

impl Drop for Schema {
    fn drop(&mut self) {
        execute(&format!("DROP SCHEMA {} CASCADE", self.name));
    }
}

fn server() -> String {
    std::env::var("EYEBOLT_TEST_POSTGRES_URL").unwrap_or_else(|_| "postgres://root@127.0.0.1/test".to_owned())
}

fn execute(statement: &str) {
    let mut psql = Command::new("psql");
    psql.arg(server()).args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command", statement]);
    let ran = psql.output().expect("psql, to make schemas on the PostgreSQL server for tests");
    // A test that has failed must tell its own reason.
    let fine = ran.status.success() || std::thread::panicking();
    assert!(fine, "{statement}: {}", String::from_utf8_lossy(&ran.stderr));
}
