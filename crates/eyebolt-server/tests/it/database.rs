//! PostgreSQL for apps under test: `EYEBOLT_TEST_POSTGRES_URL`, through the command `psql`.

use std::{process::Command, sync::Arc};

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
pub(crate) struct Schema(String);

impl Schema {
    pub(crate) fn new() -> Arc<Self> {
        let name = format!("eyebolt_{}", JobId::new());
        execute(&format!("CREATE SCHEMA {name}"));
        Arc::new(Self(name))
    }

    pub(crate) fn url(&self) -> String {
        let separator = if server().contains('?') { '&' } else { '?' };
        format!("{}{separator}options=-csearch_path%3D{}", server(), self.0)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        execute(&format!("DROP SCHEMA {} CASCADE", self.0));
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
