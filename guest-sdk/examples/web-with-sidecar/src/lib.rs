//! The web server of the pair: serves files from the directory that it shares with its sidecar.

use std::path::{Component, Path, PathBuf};

use freewheel_guest::{Body, Error, Request, Response, http_handler};

const ROOT: &str = "/srv";

/// The file that a request path names; nothing outside of [`ROOT`].
fn file_of(path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let name = if relative.as_os_str().is_empty() { Path::new("index.html") } else { relative };
    inside.then(|| Path::new(ROOT).join(name))
}

async fn serve(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let found = file_of(&path).and_then(|file| std::fs::read(file).ok());
    println!("{} {path} {}", request.method(), if found.is_some() { 200 } else { 404 });
    let response = match found {
        Some(bytes) => {
            Response::builder().status(200).header("content-type", "text/html").body(bytes.into())
        }
        None => Response::builder().status(404).body("no such file\n".to_owned().into()),
    };
    Ok(response?)
}

http_handler!(serve);
