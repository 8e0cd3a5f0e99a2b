//! A git server that stands in for GitHub: `git http-backend` over TLS on loopback, with GitHub's answers at the door.
//!
//! | who asks | public repository | private repository | none |
//! |---|---|---|---|
//! | nobody | git's answer | 401 | 401 |
//! | the right token, user `x-access-token` | git's answer | git's answer | 404 |
//! | anything else | 401 | 401 | 401 |

mod backend;
mod repository;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rand::distr::{Alphanumeric, SampleString};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{certificate, http};

pub use repository::{File, Repository};

/// Largest request: what a client has and wants.
const REQUEST_MAX_BYTES: usize = 16 << 20;

/// Who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Public,
    /// Who has the token.
    Private,
}

/// What is wrong with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It takes requests and never answers.
    Silent,
    /// It answers all with this status.
    Status(u16),
    /// It sends everyone to another place.
    Redirect(String),
    /// Its answers end after so many bytes.
    CutAfter(usize),
}

/// A request that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its `Authorization`.
    pub authorization: Option<String>,
}

/// A running git server.
pub struct GitServer {
    shared: Arc<Shared>,
    address: String,
    ca: PathBuf,
    task: JoinHandle<()>,
    // Removed with the server, where it is the server's own.
    _dir: Option<TempDir>,
}

struct Shared {
    repositories: PathBuf,
    public: Mutex<BTreeSet<String>>,
    token: String,
    trouble: Mutex<Option<Trouble>>,
    seen: Mutex<Vec<Seen>>,
}

impl GitServer {
    /// Starts a server with a random token on a free port, its repositories in a temporary directory.
    pub async fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cakework-git-").tempdir()?;
        let token = format!("ghp_{}", Alphanumeric.sample_string(&mut rand::rng(), 36));
        let mut server = Self::start_in(dir.path(), 0, token).await?;
        server._dir = Some(dir);
        Ok(server)
    }

    /// Starts a server on the repositories and the certificate of a directory, which outlives it; port 0 is any.
    pub async fn start_in(dir: &Path, port: u16, token: String) -> Result<Self> {
        if !dir.join("git-server.pem").exists() {
            certificate::write(dir, "git-server")?;
        }
        let acceptor = acceptor(dir)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("listening")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            repositories: dir.join("repositories"),
            public: Mutex::default(),
            token,
            trouble: Mutex::default(),
            seen: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self { shared, address, ca: dir.join("ca.pem"), task, _dir: None })
    }

    /// What stands in for `https://github.com`.
    pub fn base_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// The file with the authority of its certificate, in PEM.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The one token that it knows.
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Makes an empty repository `org/repo`.
    pub fn create(&self, name: &str, access: Access) -> Result<Repository> {
        if access == Access::Public {
            lock(&self.shared.public).insert(name.to_owned());
        }
        Repository::create(&self.shared.repositories.join(format!("{name}.git")))
    }

    /// From now on all requests meet this.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        *lock(&self.shared.trouble) = trouble;
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acceptor(dir: &Path) -> Result<TlsAcceptor> {
    http::install_crypto();
    let chain = CertificateDer::pem_file_iter(dir.join("git-server.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(dir.join("git-server.key"))?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // The connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // A client that distrusts the certificate or breaks off is what some tests want.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| answer(request, &shared));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    lock(&shared.seen).push(Seen {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        authorization: authorization.map(str::to_owned),
    });
    let trouble = lock(&shared.trouble).clone();
    match trouble {
        Some(Trouble::Silent) => std::future::pending().await,
        Some(Trouble::Status(status)) => return plain(StatusCode::from_u16(status)?),
        Some(Trouble::Redirect(to)) => {
            let to = format!("{to}{}", parts.uri);
            return Ok(Response::builder().status(301).header(header::LOCATION, to).body(Full::default())?);
        }
        Some(Trouble::CutAfter(_)) | None => {}
    }
    // Collected also where it is refused: the client finishes its request first.
    let body = Limited::new(body, REQUEST_MAX_BYTES).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let pair = format!("x-access-token:{}", shared.token);
    let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let name = repository_of(parts.uri.path());
    let public = name.as_ref().is_some_and(|name| lock(&shared.public).contains(name));
    let exists = name.is_some_and(|name| shared.repositories.join(format!("{name}.git")).is_dir());
    match authorization {
        Some(given) if given != expected => refused(),
        None if !public => refused(),
        _ if !exists => plain(StatusCode::NOT_FOUND),
        _ => {
            let (parts, mut body) =
                backend::answer(&shared.repositories, &Request::from_parts(parts, body)).await?.into_parts();
            if let Some(Trouble::CutAfter(most)) = trouble {
                body.truncate(most);
            }
            Ok(Response::from_parts(parts, Full::new(body)))
        }
    }
}

/// `org/repo` of `/org/repo.git/…`.
fn repository_of(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix('/')?.splitn(3, '/');
    let (organisation, name) = (parts.next()?, parts.next()?.strip_suffix(".git")?);
    (organisation != ".." && name != "..").then(|| format!("{organisation}/{name}"))
}

fn refused() -> Result<Response<Full<Bytes>>> {
    let answer = Response::builder().status(StatusCode::UNAUTHORIZED);
    Ok(answer.header(header::WWW_AUTHENTICATE, "Basic realm=\"GitHub\"").body(Full::default())?)
}

fn plain(status: StatusCode) -> Result<Response<Full<Bytes>>> {
    Ok(Response::builder().status(status).body(Full::default())?)
}
