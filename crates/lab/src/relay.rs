//! Questions to the lab's relay, asked without an async caller.

use std::path::Path;
use std::thread;

use api::proto::signet::v1::signet_client::SignetClient;
use tonic::transport::Channel;

use crate::error::Error;

/// Connects to the relay and does `work` with the connection, on a thread of its
/// own: the caller may or may not be inside a runtime.
pub fn ask<T, F, W>(socket: &Path, work: W) -> Result<T, Error>
where
    T: Send,
    F: Future<Output = Result<T, Error>>,
    W: FnOnce(Channel) -> F + Send,
{
    let failed = |detail: String| Error::Malformed {
        what: format!("the relay at `{}`", socket.display()),
        detail,
    };
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::file("start a runtime to ask", socket))?;
            runtime.block_on(async {
                let channel = api::client::connect(socket)
                    .await
                    .map_err(|error| failed(error.to_string()))?;
                work(channel).await
            })
        });
        thread.join().unwrap_or_else(|_| Err(failed("the thread that asked panicked".into())))
    })
}

/// The client for what nodes enforce.
pub fn signet(channel: Channel) -> SignetClient<Channel> {
    SignetClient::new(channel)
}

/// What a refused question becomes.
pub fn refused(question: &str) -> impl FnOnce(tonic::Status) -> Error {
    let what = format!("the relay's answer to {question}");
    move |status| Error::Malformed { what, detail: status.message().to_owned() }
}
