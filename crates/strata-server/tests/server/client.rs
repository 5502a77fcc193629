//! A server on a port of its own, and a client that can be as rude as a test wants.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use strata_cas::MemoryStore;
use strata_oci::Registry;
use strata_server::{
    Config, FarSetup, NoImages, Scope, Secret, ServeTable, Served, Server, Setup, TokenTable, Told,
};

use crate::wire;
pub(crate) use crate::wire::{Answer, read};

/// A server that ends with its test.
pub(crate) struct Host {
    pub(crate) server: Option<Server>,
    pub(crate) told: Arc<Mutex<Vec<Told>>>,
}

/// What writers are called in these tests' configurations.
pub(crate) const WRITER: &str = "Bearer writer-0123456789";
pub(crate) const READER: &str = "Bearer reader-0123456789";

impl Host {
    pub(crate) fn open() -> Self {
        Self::with(&ServeTable::default())
    }

    pub(crate) fn with(table: &ServeTable) -> Self {
        Self::on(table, Arc::new(MemoryStore::default()))
    }

    /// On a store that outlives it.
    pub(crate) fn on(table: &ServeTable, store: Arc<dyn Served>) -> Self {
        Self::between(table, store, None, None)
    }

    /// With something behind the store.
    pub(crate) fn behind(
        table: &ServeTable,
        store: Arc<dyn Served>,
        far: Option<FarSetup>,
    ) -> Self {
        Self::between(table, store, far, None)
    }

    /// With something behind the store, and the registries that it mirrors.
    pub(crate) fn between(
        table: &ServeTable,
        store: Arc<dyn Served>,
        far: Option<FarSetup>,
        upstream: Option<Arc<dyn Registry>>,
    ) -> Self {
        let config = Config::new(table, Some("127.0.0.1:0")).expect("a configuration");
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let heard = Arc::clone(&told);
        let observer = Arc::new(move |one: &Told| heard.lock().expect("told").push(one.clone()));
        let setup = Setup { config, store, library: Arc::new(NoImages), far, observer, upstream };
        Self { server: Some(Server::start(setup).expect("a server")), told }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        wire::connect(self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").address()
    }

    /// Sends a request with a body of known length, and reads the answer.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let length = body.len().to_string();
        let mut all = vec![("content-length", &*length)];
        all.extend(headers);
        self.raw(method, path, &all, body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("PUT", path, &[], body)
    }

    /// Sends exactly this.
    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        wire::send(&mut self.connect(), method, path, headers, body)
    }
}

/// A token with all rights in a namespace.
pub(crate) fn token(name: &str, namespace: &str) -> TokenTable {
    TokenTable {
        name: name.to_owned(),
        token: Some(Secret::new(format!("{name}-0123456789"))),
        token_file: None,
        scope: Scope::Write,
        namespace: namespace.to_owned(),
        reads: Vec::new(),
        trust: 100,
        requests_per_second: None,
        bytes_per_second: None,
    }
}

/// A configuration with a writer and a reader.
pub(crate) fn guarded() -> ServeTable {
    let reader = TokenTable { scope: Scope::Read, ..token("reader", "main") };
    ServeTable { token: vec![token("writer", "main"), reader], ..ServeTable::default() }
}
