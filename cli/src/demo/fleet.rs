//! The programs of the demonstration and their settings: one file for all services, the ports from the environment.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    programs::{Change, Program, Recipe},
    server::Server,
    sources::{JOBS, QUEUE},
};

/// What the demonstration runs, in flow order, and where it listens.
pub(super) struct Fleet {
    pub recipes: Vec<Recipe>,
    /// Admin ports of the services, by the number of their recipe.
    admin: Vec<(usize, u16)>,
}

/// Where the programs are.
pub(super) struct Binaries {
    folder: PathBuf,
    worker: PathBuf,
}

impl Binaries {
    /// The services beside this program, the worker as told or among the examples beside it.
    pub(super) fn find(worker: Option<&Path>) -> Result<Binaries> {
        let this = std::env::current_exe().context("find this program's own path")?;
        let folder = this.parent().context("this program is in no folder")?.to_owned();
        let worker = worker.map_or_else(|| folder.join("examples/ledger-worker"), Path::to_owned);
        let binaries = Binaries { folder, worker };
        for name in ["tidemill-ticker", "tidemill-mover", "tidemill-dispatcher"] {
            ensure!(
                binaries.service(name).is_file(),
                "There is no {name} beside this program in {}: `make build` builds all of them.",
                binaries.folder.display()
            );
        }
        ensure!(
            binaries.worker.is_file(),
            "There is no worker at {}: `make build` builds it, --worker PATH names another one.",
            binaries.worker.display()
        );
        Ok(binaries)
    }

    fn service(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Fleet {
    /// Writes the settings to `folder` and chooses free ports.
    pub(super) fn new(
        binaries: &Binaries,
        server: &Server,
        sources: &[String],
        folder: &Path,
    ) -> Result<Fleet> {
        let settings = folder.join("tidemill.toml");
        std::fs::write(&settings, settings_for(server, sources))
            .with_context(|| format!("write {}", settings.display()))?;
        let [ticker, mover, admin_1, admin_2, http_1, http_2] = free_ports()?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let service = |name: &str, program: &str, admin: u16| Recipe {
            name: name.to_owned(),
            program: binaries.service(program),
            arguments: vec!["--config".to_owned(), settings.display().to_string()],
            environment: vec![("TIDEMILL_ADMIN__LISTEN".to_owned(), address(admin))],
            application: program.to_owned(),
        };
        let dispatcher = |name: &str, admin: u16, http: u16| {
            let mut recipe = service(name, "tidemill-dispatcher", admin);
            recipe.environment.extend([
                ("TIDEMILL_HTTP__LISTEN".to_owned(), address(http)),
                ("TIDEMILL_HTTP__ADVERTISE".to_owned(), url(http)),
            ]);
            recipe
        };
        let worker = Recipe {
            name: "worker".to_owned(),
            program: binaries.worker.clone(),
            arguments: [
                "--url",
                &url(http_1),
                "--url",
                &url(http_2),
                "--database",
                &server.url(JOBS),
                "--queue",
                QUEUE,
            ]
            .map(str::to_owned)
            .to_vec(),
            environment: vec![],
            application: "ledger-worker".to_owned(),
        };
        Ok(Fleet {
            recipes: vec![
                service("ticker", "tidemill-ticker", ticker),
                service("mover", "tidemill-mover", mover),
                dispatcher("dispatcher-1", admin_1, http_1),
                dispatcher("dispatcher-2", admin_2, http_2),
                worker,
            ],
            admin: vec![(0, ticker), (1, mover), (2, admin_1), (3, admin_2)],
        })
    }

    /// Waits until every service says that it is ready; one that ends before, or is not ready in time, is the error.
    pub(super) async fn ready(&self, programs: &mut [Program]) -> Result<()> {
        const LIMIT: Duration = Duration::from_secs(30);
        let deadline = Instant::now() + LIMIT;
        let mut look = interval(Duration::from_millis(50));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for &(number, port) in &self.admin {
            let program = &mut programs[number];
            while !is_ready(port).await {
                if Instant::now() > deadline {
                    bail!(
                        "{} is not ready after {} s. Its log ends:\n{}",
                        program.name(),
                        LIMIT.as_secs(),
                        program.last_words(20)
                    );
                }
                tokio::select! {
                    _ = look.tick() => {}
                    change = program.changed() => if let Change::Ended(status) = change? {
                        bail!(
                            "{} ended ({status}) before it was ready. Its log ends:\n{}",
                            program.name(),
                            program.last_words(20)
                        );
                    },
                }
            }
        }
        Ok(())
    }
}

/// One file serves all services.
fn settings_for(server: &Server, sources: &[String]) -> String {
    let mut text = String::new();
    for name in sources.iter().map(String::as_str).chain([JOBS]) {
        text += &format!("[[databases]]\nname = \"{name}\"\nurl = \"{}\"\n\n", server.url(name));
    }
    text + &format!(
        "[ticker]\ndatabases = [\"*\"]\n\n\
         [mover]\ndestination = \"{JOBS}\"\nsources = [\"source_*\"]\n\n\
         [[mover.routes]]\nfrom = \"{QUEUE}\"\nto = \"{QUEUE}\"\n\n\
         [dispatcher]\ndatabases = [\"{JOBS}\"]\nqueues = [\"{QUEUE}\"]\n"
    )
}

/// Ports on which nobody listens, outside the range from which outgoing connections get theirs: a dispatcher that is
/// started again finds its port free.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut rng = rand::rng();
    let mut held = Vec::new();
    for _ in 0..1000 {
        if held.len() == N {
            break;
        }
        let port = rng.random_range(20_000..30_000);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
    }
    let ports: Vec<u16> = held.into_iter().map(|(port, _)| port).collect();
    ports.try_into().ok().context("no free ports between 20000 and 30000 on 127.0.0.1")
}

/// Whether `/readyz` answers 200 within a second.
async fn is_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        std::io::Result::Ok(status)
    };
    timeout(Duration::from_secs(1), ask)
        .await
        .is_ok_and(|answer| answer.is_ok_and(|status| status == *b"HTTP/1.1 200"))
}
