//! The dashboard of a cluster, reached as its user reaches it: through `kubectl port-forward`.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{Error as AnyError, Kubernetes};

/// Dask's conventional port.
pub const PORT: u16 = 8787;

/// The page is made in milliseconds, but by an event loop that may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the dashboard did not show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubectl did not forward.
    #[error("failed to forward a port to service/{service}: kubectl said {said:?}")]
    Forward {
        /// Which Service.
        service: String,
        /// What kubectl printed.
        said: String,
    },
    /// A connection broke.
    #[error("failed to get the dashboard's page /status")]
    Connection(#[from] io::Error),
    /// The answer is not the page.
    #[error("failed to get the dashboard's page /status: it answered {answer:?}")]
    Answer {
        /// The beginning of it.
        answer: String,
    },
    /// No answer.
    #[error("failed to get the dashboard's page /status within {} s", PATIENCE.as_secs())]
    Deadline,
}

/// Opens `/status` through a forwarded port and returns the title of the page.
///
/// # Errors
/// When anything but the page comes back.
pub async fn title(kubernetes: &Kubernetes, namespace: &str, cluster: &str) -> Result<String, AnyError> {
    let service = format!("{cluster}-scheduler");
    let forward =
        kubernetes.kubectl(&format!("port-forward --namespace {namespace} service/{service} :{PORT}"));
    // Ends with this function.
    let mut child = forward.into_command().spawn().map_err(Error::Connection)?;
    let work = async {
        let mut said = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut said).await?;
        }
        let Some(port) = local_port(&said) else {
            if let Some(stderr) = child.stderr.as_mut() {
                stderr.read_to_string(&mut said).await?;
            }
            return Err(Error::Forward { service, said });
        };
        let answer = get(port, "/status").await?;
        page_title(&answer).ok_or_else(|| Error::Answer { answer: answer.chars().take(300).collect() })
    };
    Ok(tokio::time::timeout(PATIENCE, work).await.map_err(|_elapsed| Error::Deadline)??)
}

/// The port in `Forwarding from 127.0.0.1:40123 -> 8787`.
fn local_port(said: &str) -> Option<u16> {
    said.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse().ok()
}

async fn get(port: u16, path: &str) -> Result<String, Error> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // HTTP/1.0, so that the answer comes unchunked and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The title of the page, if the answer is one with status 200.
fn page_title(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut words = head.split_whitespace();
    let ok = words.next()?.starts_with("HTTP/1.") && words.next()? == "200";
    let title = body.split_once("<title>")?.1.split_once("</title>")?.0;
    ok.then(|| title.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read() {
        assert_eq!(local_port("Forwarding from 127.0.0.1:40123 -> 8787\n"), Some(40123));
        assert_eq!(local_port("error: no"), None);
    }

    #[rstest::rstest]
    #[case("HTTP/1.1 200 OK\r\nA: b\r\n\r\n<html><title> Dask: Status </title>", Some("Dask: Status"))]
    #[case("HTTP/1.1 404 Not Found\r\n\r\n<title>404</title>", None)]
    #[case("HTTP/1.1 200 OK\r\n\r\nno page", None)]
    #[case("", None)]
    fn only_a_page_is_a_page(#[case] answer: &str, #[case] title: Option<&str>) {
        assert_eq!(page_title(answer).as_deref(), title);
    }
}
