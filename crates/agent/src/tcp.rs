//! Serving on TCP to those on a list, for as long as the process runs: certificates,
//! roots and the list are read again when their files change.
//!
//! What changed counts for everybody: connections that are there end and are made
//! anew, so that who was taken off the list reads no more. Files that let nobody be
//! served change nothing, and are told.

use std::fs;
use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use api::access::Access;
use api::server::{ServeError, Tls};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::chain::chain;
use crate::command::AgentError;
use crate::config::TcpSettings;

/// How often files are looked at. What is the same in two looks is whole.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Before serving is tried again after it ended by itself.
const RETRY: Duration = Duration::from_secs(1);

/// Ready when serving is to end.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the files hold.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    clients: Vec<u8>,
    access: Vec<u8>,
}

impl Files {
    fn read(settings: &TcpSettings) -> Result<Self, AgentError> {
        let TcpSettings { listen: _, certificate, key, clients, access } = settings;
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| AgentError::File { path: path.clone(), source })
        };
        Ok(Self {
            certificate: read(certificate)?,
            key: read(key)?,
            clients: read(clients)?,
            access: read(access)?,
        })
    }

    /// What they mean; anything amiss lets in nobody.
    fn admission(&self, settings: &TcpSettings) -> Result<(Tls, Access), AgentError> {
        let Self { certificate, key, clients, access } = self.clone();
        let list = Access::read(&String::from_utf8_lossy(&access))
            .map_err(|source| AgentError::Access { path: settings.access.clone(), source })?;
        let tls = Tls { certificate, key, clients };
        tls.check()?;
        Ok((tls, list))
    }
}

/// A port that is listened on, and who is let in there.
#[derive(Debug)]
pub struct Listening {
    settings: TcpSettings,
    listener: StdListener,
    files: Files,
}

impl Listening {
    /// Listens; fails where nobody could be served.
    pub async fn open(settings: TcpSettings) -> Result<Self, AgentError> {
        let files = Files::read(&settings)?;
        files.admission(&settings)?;
        let address = settings.listen;
        let failed = |source| ServeError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let listener = listener.into_std().map_err(failed)?;
        Ok(Self { settings, listener, files })
    }

    /// Serves for as long as it is polled; `serve` does until it is told to stop, `tell`
    /// hears of what an operator should know.
    pub async fn serve<F>(
        mut self,
        serve: impl Fn(TcpListener, Tls, Access, Stop) -> F,
        tell: impl Fn(String),
    ) where
        F: Future<Output = Result<(), ServeError>>,
    {
        loop {
            if let Some(files) = self.once(&serve, &tell).await {
                self.files = files;
                tell("certificates and readers of TCP were read again".to_owned());
            }
        }
    }

    /// Until the files change, which it returns, or until serving ends by itself.
    async fn once<F>(
        &self,
        serve: &impl Fn(TcpListener, Tls, Access, Stop) -> F,
        tell: &impl Fn(String),
    ) -> Option<Files>
    where
        F: Future<Output = Result<(), ServeError>>,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped: Stop = Box::pin(async {
            // Sent or dropped, it means the same.
            let _ = stopped.await;
        });
        let serving = async {
            let (tls, access) = self.files.admission(&self.settings)?;
            let address = self.settings.listen;
            let failed = |source| ServeError::Address { address, source };
            let listener = self.listener.try_clone().map_err(failed)?;
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            Ok::<_, AgentError>(serve(listener, tls, access, stopped).await?)
        };
        tokio::pin!(serving);
        tokio::select! {
            files = self.changed(tell) => {
                drop(stop);
                if let Err(error) = serving.await {
                    tell(format!("TCP ended badly: {}", chain(&error)));
                }
                Some(files)
            }
            ended = &mut serving => {
                let reason = ended.err().map_or_else(String::new, |error| chain(&error));
                tell(format!("TCP is not served for a moment: {reason}"));
                tokio::time::sleep(RETRY).await;
                None
            }
        }
    }

    /// Other files, whole and good.
    async fn changed(&self, tell: &impl Fn(String)) -> Files {
        let (mut last, mut told) = (None, None);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = Files::read(&self.settings).map_err(|error| chain(&error));
            if found.as_ref() == Ok(&self.files) {
                (last, told) = (None, None);
                continue;
            }
            if last.as_ref() != Some(&found) {
                last = Some(found);
                continue;
            }
            let good = found.and_then(|files| {
                let admission = files.admission(&self.settings);
                admission.map(|_| files).map_err(|error| chain(&error))
            });
            match good {
                Ok(files) => return files,
                Err(reason) if told.as_ref() != Some(&reason) => {
                    tell(format!("readers of TCP stay as they were: {reason}"));
                    told = Some(reason);
                }
                Err(_) => {}
            }
        }
    }
}
