//! PostgreSQL over TLS: a server of the test's own, with a certificate of an authority of the test's own.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use eyebolt_server::{
    Place,
    access::AccessSettings,
    place::{PlaceError, StorageSettings},
};
use eyebolt_types::Clock;
use tempfile::TempDir;

/// Runs a program to its end. What it printed.
fn ran(command: &mut Command) -> String {
    let what = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An authority in a folder, and a certificate of it for `localhost`.
pub(crate) fn certify(folder: &Path) {
    let config = folder.join("openssl.cnf");
    fs::write(&config, "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
    let openssl = |arguments: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-config"]).arg(&config).args(arguments.split(' ')).current_dir(folder);
        ran(&mut openssl);
    };
    // Two authorities are not of one name.
    let name = folder.file_name().unwrap().to_string_lossy();
    openssl(&format!(
        "-keyout ca.key -out ca.pem -subj /CN={name} -addext basicConstraints=critical,CA:TRUE"
    ));
    openssl(
        "-CA ca.pem -CAkey ca.key -keyout server.key -out server.pem -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost",
    );
}

/// A PostgreSQL server that takes connections over TLS alone.
struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

impl Cluster {
    fn start() -> Self {
        let programs = programs();
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path());
        // Asked for a free one, the system gives each in turn: nobody else gets this one soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, programs, port };
        if is_root() {
            ran(Command::new("chown").args(["-R", "postgres"]).arg(cluster.path("")));
        }
        ran(cluster
            .program("initdb")
            .args(["-U", "eyebolt", "-A", "trust"])
            .arg("-D")
            .arg(cluster.path("data")));
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        fs::write(cluster.path("data/pg_hba.conf"), rules).unwrap();
        let path = |name| cluster.path(name).display().to_string();
        // What the command line says could not be altered later.
        let own = fs::read_to_string(cluster.path("data/postgresql.conf")).unwrap();
        fs::write(cluster.path("data/postgresql.conf"), own + "ssl = on\n").unwrap();
        let settings = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} -c ssl_cert_file={} \
             -c ssl_key_file={}",
            path(""),
            path("server.pem"),
            path("server.key")
        );
        let mut start = cluster.program("pg_ctl");
        start
            .arg("-D")
            .arg(cluster.path("data"))
            .arg("-l")
            .arg(cluster.path("log"))
            .args(["-w", "-o", &settings, "start"]);
        // The server would keep a pipe open.
        let started = start.stdout(std::process::Stdio::null()).status().unwrap().success();
        assert!(started, "{}", fs::read_to_string(cluster.path("log")).unwrap_or_default());
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One of PostgreSQL's programs, which do not run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .arg(program)
            .current_dir("/");
        command
    }

    /// What the server itself answers.
    fn told(&self, statement: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-U", "eyebolt", "-d", "postgres", "-qtA", "-p", &self.port.to_string(), "-h"]);
        ran(psql.arg(self.path("")).args(["-c", statement])).trim().to_owned()
    }

    fn url(&self, (host, parameters): (&str, &str)) -> String {
        format!("postgres://eyebolt@{host}:{}/postgres?{parameters}", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        _ = stop.arg("-D").arg(self.path("data")).args(["-m", "immediate", "stop"]).output();
    }
}

/// Where PostgreSQL's own programs are: those of its newest version, where Debian has it, or where it says.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|found| found.flatten().map(|entry| entry.path()));
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.ok().and_then(|found| found.max_by_key(version)).map(|path| path.join("bin"));
    newest.unwrap_or_else(|| PathBuf::from(ran(Command::new("pg_config").arg("--bindir")).trim()))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Opens a data folder whose rows are there, as a server does.
async fn open(folder: &Path, url: &str) -> Result<Place, PlaceError> {
    let storage = StorageSettings { data_dir: folder.to_owned(), database_url: url.into() };
    Place::open(&storage, &AccessSettings::default(), &Clock::system()).await.map(|(place, _)| place)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_server_is_spoken_to_over_tls_and_believed_by_its_certificate() {
    let cluster = Cluster::start();
    let (folder, stranger) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certify(stranger.path());
    let with = |authority: &Path| format!("sslmode=verify-full&sslrootcert={}", authority.display());
    let (known, unknown) = (with(&cluster.path("ca.pem")), with(&stranger.path().join("ca.pem")));

    let place = open(folder.path(), &cluster.url(("localhost", &known))).await.expect("all is right");
    assert_eq!(
        place.store.create_project("acme", Clock::system().now()).await.unwrap().unwrap().name,
        "acme"
    );
    let encrypted = "SELECT bool_and(ssl) AND count(*) > 5 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'eyebolt'";
    assert_eq!(cluster.told(encrypted), "t", "every connection, the one for signals too");
    drop(place);

    let refused = async |(host, parameters): (&str, &str), reason: &str| {
        let told =
            open(folder.path(), &cluster.url((host, parameters))).await.map(drop).unwrap_err().to_string();
        assert!(told.contains("the database is unavailable") && told.contains(reason), "{reason}: {told}");
    };
    refused(("localhost", &unknown), "UnknownIssuer").await;
    refused(("127.0.0.1", &known), "certificate not valid for name").await;
    refused(("localhost", &with(&cluster.path("missing.pem"))), "missing.pem").await;
    refused(("localhost", "sslmode=disable"), "no encryption").await;
    // Whoever sits in between may say so too: nothing is sent without TLS.
    cluster.told("ALTER SYSTEM SET ssl = off");
    cluster.told("SELECT pg_reload_conf()");
    while cluster.told("SHOW ssl") != "off" {}
    refused(("localhost", &known), "server does not support TLS").await;
}
