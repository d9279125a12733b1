//! Starts servers on loopback, each in a folder of its own, and ends them.

#![expect(
    clippy::disallowed_methods,
    reason = "this starts servers, where the environment says"
)]

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The servers that tests run against.
pub(crate) const ALL: [Kind; 4] = [Kind::Folder, Kind::Nginx, Kind::Redis, Kind::Casd];

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    Nginx,
    Redis,
    Casd,
}

/// A running server, which ends when this is dropped.
pub(crate) struct Server {
    process: Option<Child>,
    folder: tempfile::TempDir,
    kind: Kind,
    port: u16,
}

impl Server {
    /// Starts a server; `None` if its program is missing and `CI` is not set.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let Some(mut command) = command(kind, folder.path(), port) else {
            return Some(Self {
                process: None,
                folder,
                kind,
                port,
            });
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                let in_ci = variable("CI").is_some();
                assert!(!in_ci, "{kind:?} cannot be started: {error}");
                let _ = writeln!(
                    std::io::stderr(),
                    "skipped: {kind:?} cannot be started: {error}"
                );
                return None;
            }
        };
        let server = Self {
            process: Some(process),
            folder,
            kind,
            port,
        };
        server.wait();
        Some(server)
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < until, "{:?} does not listen", self.kind);
            std::thread::yield_now();
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of the server, seen through `port`.
    pub(crate) fn url(&self, port: u16) -> String {
        match self.kind {
            Kind::Folder => format!("file://{}", self.folder.path().display()),
            Kind::Nginx => format!("http://127.0.0.1:{port}/cache"),
            Kind::Redis => format!("redis://127.0.0.1:{port}/0"),
            Kind::Casd => format!("grpc://127.0.0.1:{port}"),
        }
    }

    /// Deletes all blobs and keeps the records; false if there is no way to do so.
    pub(crate) fn evict_blobs(&self) -> bool {
        match self.kind {
            Kind::Folder => fs::remove_dir_all(self.folder.path().join("v1/cas")).is_ok(),
            Kind::Nginx => fs::remove_dir_all(self.folder.path().join("data/cache/cas")).is_ok(),
            Kind::Redis => redis(
                self.port,
                "EVAL \"for _,k in ipairs(redis.call('keys','*cas:*')) do redis.call('del',k) end\" 0",
            ),
            // It believes that what it once had is there: files that vanish are no eviction.
            Kind::Casd => false,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Returns a variable as a path.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn redis(port: u16, line: &str) -> bool {
    let command = format!("redis-cli -p {port} {line}");
    Command::new("sh")
        .args(["-c", &command])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Returns the command that starts a server; `None` where no process is needed.
fn command(kind: Kind, folder: &Path, port: u16) -> Option<Command> {
    let mut command = match kind {
        Kind::Folder => return None,
        Kind::Nginx => {
            fs::create_dir_all(folder.join("data")).unwrap();
            fs::write(folder.join("nginx.conf"), nginx_conf(folder, port)).unwrap();
            let mut command = Command::new("/usr/sbin/nginx");
            command
                .arg("-p")
                .arg(folder)
                .arg("-c")
                .arg(folder.join("nginx.conf"));
            command
        }
        Kind::Redis => {
            let mut command = Command::new("redis-server");
            command.args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
            ]);
            command.arg(port.to_string());
            command
        }
        Kind::Casd => {
            let programs = variable("FBUILD_CASD").unwrap_or_default();
            fs::create_dir_all(folder.join("store")).unwrap();
            let mut command = Command::new(programs.join("buildbox-casd"));
            command
                .arg(format!("--bind=127.0.0.1:{port}"))
                .arg(folder.join("store"));
            command
        }
    };
    command.current_dir(folder);
    Some(command)
}

fn nginx_conf(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors; user root;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {folder}/body; client_max_body_size 0;
    proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/data;
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"
    )
}
