//! TLS against a real server with an authority of our own: who is accepted, and who is refused.
#![expect(clippy::unwrap_used, reason = "functions that only tests call")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::{Class, DbError, Session, Target, TargetOptions, Type};
use tidemill_common::error_chain;
use tidemill_common::testing::{Cluster, wait_for};

const HOST: &str = "db.tidemill.test";
const SOON: Duration = Duration::from_secs(10);

/// A directory with keys and certificates, made by the `openssl` command.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        for ca in ["ca", "other-ca"] {
            authority.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                 -subj /CN=tidemill-test-{ca} -keyout {ca}.key -out {ca}.crt"
            ));
        }
        authority
    }

    fn openssl(&self, words: &str) {
        let output =
            Command::new("openssl").args(words.split_whitespace()).current_dir(self.0.path()).output();
        let output = output.expect("this test needs the openssl command: install openssl");
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// `NAME.key` and `NAME.crt` for this common name (and DNS name), signed by `ca`.
    fn sign(&self, name: &str, common_name: &str, days: i32) {
        std::fs::write(self.path("extensions"), format!("subjectAltName = DNS:{common_name}\n")).unwrap();
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
             -subj /CN={common_name} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} \
             -in {name}.csr -extfile extensions -out {name}.crt"
        ));
    }
}

struct Server {
    cluster: Cluster,
    authority: Authority,
}

impl Server {
    /// Gives the server this key and certificate.
    async fn present(&self, name: &str) {
        for end in ["key", "crt"] {
            let from = self.authority.path(&format!("{name}.{end}"));
            let to = self.cluster.data().join(format!("server.{end}"));
            std::fs::copy(from, &to).unwrap();
            self.hand_over(&to);
        }
        self.configure("alter system set ssl = on").await;
    }

    fn hand_over(&self, file: &Path) {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
        let owner = std::fs::metadata(self.cluster.data()).unwrap();
        chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Changes a setting, and waits until the server has read its files again.
    async fn configure(&self, sql: &str) {
        let mut session = Session::new(self.cluster.target("postgres"), "tidemill-test");
        session.batch("configure", sql).await.unwrap();
        let loaded = "select extract(epoch from pg_conf_load_time())::float8";
        let before: f64 = session.query_one("look", loaded, &[]).await.unwrap().get(0);
        session.query("reload", "select pg_reload_conf()", &[]).await.unwrap();
        wait_for("the reload", SOON, async || {
            let mut session = Session::new(self.cluster.target("postgres"), "tidemill-test");
            let now: f64 = session.query_one("look", loaded, &[]).await.unwrap().get(0);
            (now > before).then_some(())
        })
        .await;
    }

    /// Connects over TCP under this host name; true if the server says that the connection is encrypted.
    async fn connect(&self, host: &str, user: &str, parameters: &str) -> Result<bool, DbError> {
        let port = self.cluster.port();
        let url =
            format!("host={host} hostaddr=127.0.0.1 port={port} user={user} dbname=postgres {parameters}");
        let options = TargetOptions { allow_plaintext: true, ..TargetOptions::default() };
        let mut session =
            Session::new(Arc::new(Target::parse("tls", &url, &options).unwrap()), "tidemill-test");
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid() and $1 is not null";
        let row = session.query_one("look at the connection", sql, &[(&user, Type::TEXT)]).await?;
        Ok(row.get(0))
    }

    async fn cancels_over_tls(&self, parameters: &str) {
        let port = self.cluster.port();
        let url =
            format!("host={HOST} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres {parameters}");
        let target = Target::parse("tls", &url, &TargetOptions::default()).unwrap();
        let deadline = Duration::from_millis(500);
        let mut sleeper = Session::new(Arc::new(target), "tidemill-sleeper").with_deadline(deadline);
        sleeper.query("sleep", "select pg_sleep(60)", &[]).await.unwrap_err();
        let mut session = Session::new(self.cluster.target("postgres"), "tidemill-test");
        let sql =
            "select 1 from pg_stat_activity where application_name = 'tidemill-sleeper' and state = 'active'";
        wait_for("the end of the cancelled statement", Duration::from_secs(4), async || {
            session.query("look", sql, &[]).await.unwrap().is_empty().then_some(())
        })
        .await;
    }

    async fn refused(&self, host: &str, parameters: &str) -> String {
        let error = self.connect(host, "postgres", parameters).await.unwrap_err();
        let text = error_chain(&error);
        assert_eq!(error.class(), Class::Stop, "a person must act: {text}");
        text
    }
}

#[tokio::test]
async fn the_right_server_is_accepted_and_every_other_refused() {
    let server = Server { cluster: Cluster::private(), authority: Authority::new() };
    let ca = format!("sslrootcert={}", server.authority.path("ca.crt").display());
    let other = format!("sslrootcert={}", server.authority.path("other-ca.crt").display());
    let full = format!("sslmode=verify-full {ca}");

    let text = server.refused(HOST, &full).await;
    assert!(text.contains("does not support TLS"), "a plaintext server: {text}");
    assert!(!server.connect(HOST, "postgres", "sslmode=prefer").await.unwrap());

    server.authority.sign("server", HOST, 2);
    server.present("server").await;
    assert!(server.connect(HOST, "postgres", &full).await.unwrap());
    assert!(server.connect(HOST, "postgres", &format!("{full} channel_binding=prefer")).await.unwrap());
    let text = server.refused(HOST, &format!("sslmode=verify-full {other}")).await;
    assert!(text.contains("invalid peer certificate"), "wrong authority: {text}");
    let text = server.refused(HOST, "sslmode=verify-full").await;
    assert!(text.contains("certificate"), "the system does not know our authority: {text}");
    let text = server.refused("other.tidemill.test", &full).await;
    assert!(text.contains("not valid for name"), "wrong host name: {text}");

    server.cancels_over_tls(&full).await;

    // verify-ca looks at the authority only; require at nothing, unless there is an authority to look at.
    assert!(
        server.connect("other.tidemill.test", "postgres", &format!("sslmode=verify-ca {ca}")).await.unwrap()
    );
    server.refused(HOST, &format!("sslmode=verify-ca {other}")).await;
    assert!(server.connect("other.tidemill.test", "postgres", "sslmode=require").await.unwrap());
    server.refused(HOST, &format!("sslmode=require {other}")).await;
    assert!(server.connect(HOST, "postgres", "sslmode=prefer").await.unwrap());
    assert!(!server.connect(HOST, "postgres", "sslmode=allow").await.unwrap());

    server.authority.sign("expired", HOST, -1);
    server.present("expired").await;
    let text = server.refused(HOST, &full).await;
    assert!(text.contains("Expired"), "{text}");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let server = Server { cluster: Cluster::private(), authority: Authority::new() };
    server.authority.sign("server", HOST, 2);
    server.authority.sign("mill", "mill", 2);
    let client_ca = server.cluster.data().join("client-ca.crt");
    std::fs::copy(server.authority.path("ca.crt"), &client_ca).unwrap();
    server.hand_over(&client_ca);
    let hba = server.cluster.data().join("pg_hba.conf");
    std::fs::write(&hba, "local all all trust\nhostssl all mill 127.0.0.1/32 cert\n").unwrap();
    server.configure("create role mill login").await;
    server.configure("alter system set ssl_ca_file = 'client-ca.crt'").await;
    server.present("server").await;

    let [ca, cert, key] = ["ca.crt", "mill.crt", "mill.key"].map(|file| server.authority.path(file));
    let full = format!("sslmode=verify-full sslrootcert={}", ca.display());
    let pair = format!("{full} sslcert={} sslkey={}", cert.display(), key.display());
    assert!(server.connect(HOST, "mill", &pair).await.unwrap());
    let error = server.connect(HOST, "mill", &full).await.unwrap_err();
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("28000"), "{error:?}");
    let error =
        server.connect(HOST, "mill", &format!("{full} sslcert={}", cert.display())).await.unwrap_err();
    assert!(error_chain(&error).contains("sslcert and sslkey must be set together"));
}
