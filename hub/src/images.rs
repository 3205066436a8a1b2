//! `hub images`, `hub inspect`, `hub rm`: what is in the registry, by the paths that every tool uses.

use std::io::{self, Write as _};

use bytes::Bytes;
use freewheel_hub_modules::reference::{BadReference, Reference};
use freewheel_link::digest::Digest;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::cli::{ImageOptions, ImagesOptions, RmOptions};
use crate::client::{Client, ClientError};

/// Names that are asked for at a time.
const NAMES_PER_PAGE: usize = 500;
/// Tags that an error names.
const TAGS_SHOWN_MAX: usize = 20;

/// Why nothing is shown or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name.
    #[error(transparent)]
    Name(#[from] BadReference),
    /// Another registry's.
    #[error("{0:?} is in another registry; this is about the hub's own")]
    Foreign(String),
    /// Not there.
    #[error("there is no {0} in the hub's registry; `hub images` lists what there is")]
    None(String),
    /// Of several one is to be named: nobody should lose `latest` who thought of another.
    #[error(
        "{name:?} says neither a tag nor a digest: give {name}:TAG, or {name}@DIGEST for an image with all its tags; {tags}"
    )]
    Which {
        /// What was given.
        name: String,
        /// What there is.
        tags: String,
    },
    /// The hub.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The terminal.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// What a name stands for.
struct Found {
    digest: Digest,
    module: String,
    size: u64,
    title: String,
}

/// Prints everything that has a tag.
///
/// # Errors
/// When the hub cannot be reached or refuses.
pub async fn list(options: ImagesOptions) -> Result<(), ImageError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    let mut rows = vec![["NAME", "TAG", "DIGEST", "SIZE"].map(str::to_owned)];
    for name in names(&client, "/v2/_catalog", "repositories").await? {
        for tag in names(&client, &format!("/v2/{name}/tags/list"), "tags").await? {
            // One that was removed meanwhile is not there any more.
            if let Some(found) = find(&client, &name, &tag).await? {
                let digest = found.digest.to_string();
                rows.push([name.clone(), tag, digest, size(found.size)]);
            }
        }
    }
    Ok(print(&rows)?)
}

/// Prints what is known of one.
///
/// # Errors
/// When there is none, or the hub refuses.
pub async fn inspect(options: ImageOptions) -> Result<(), ImageError> {
    let client = Client::new(options.kubeconfig.as_deref())?.at_root();
    let (name, reference) = own(&options.name, &client)?;
    let missing = || ImageError::None(options.name.clone());
    let found = find(&client, &name, &reference).await?.ok_or_else(missing)?;
    let mut tags = Vec::new();
    for tag in names(&client, &format!("/v2/{name}/tags/list"), "tags").await? {
        let same = find(&client, &name, &tag).await?;
        if same.is_some_and(|same| same.digest == found.digest) {
            tags.push(tag);
        }
    }
    let rows = [
        ["Name:", &name],
        ["Tags:", &tags.join(", ")],
        ["Image:", &format!("{name}@{}", found.digest)],
        ["Module:", &found.module],
        ["Size:", &format!("{} bytes", found.size)],
        ["File:", &found.title],
    ];
    Ok(print(&rows.map(|row| row.map(str::to_owned)))?)
}

/// Removes a tag, or with a digest all that it is called by.
///
/// # Errors
/// When there is none, when it is not said which, or the hub refuses: somebody runs it.
pub async fn remove(options: RmOptions) -> Result<(), ImageError> {
    let RmOptions { name: asked, force, kubeconfig } = options;
    let client = Client::new(kubeconfig.as_deref())?.at_root();
    let (name, reference) = own(&asked, &client)?;
    if !names_one(&asked) {
        return Err(which(&client, asked, &name).await?);
    }
    let found = find(&client, &name, &reference).await?;
    let found = found.ok_or(ImageError::None(asked))?;
    let forced = if force { "?force=true" } else { "" };
    let path = format!("/v2/{name}/manifests/{reference}{forced}");
    let answer = client.send(Method::DELETE, &path, "application/json", Bytes::new()).await?;
    answer.success()?.warnings.iter().for_each(|warning| println!("{warning}"));
    if reference.parse::<Digest>().is_ok() {
        println!("{name}@{reference} removed, with its tags");
    } else {
        let digest = found.digest;
        println!(
            "{name}:{reference} removed; {name}@{digest} stays for pods, ReplicaSets, revisions and Jobs that have it, \
             until `hub rm {name}@{digest}`. What gets its first pod from now on and names the tag will not find it"
        );
    }
    Ok(())
}

/// Whether a name that is a reference says its tag or digest: a colon before the last slash is a port's.
fn names_one(reference: &str) -> bool {
    reference.contains('@') || reference.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// Asks for one of those that there are.
async fn which(client: &Client, asked: String, name: &str) -> Result<ImageError, ClientError> {
    let tags = names(client, &format!("/v2/{name}/tags/list"), "tags").await?;
    if tags.is_empty() {
        return Ok(ImageError::None(asked));
    }
    let shown = tags.iter().take(TAGS_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = tags.len().saturating_sub(TAGS_SHOWN_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Ok(ImageError::Which { name: asked, tags: format!("its tags are {shown}{more}") })
}

/// Repository, and tag or digest.
fn own(name: &str, client: &Client) -> Result<(String, String), ImageError> {
    let reference: Reference = name.parse()?;
    if reference.host.as_ref().is_some_and(|host| !client.is_at(host)) {
        return Err(ImageError::Foreign(name.to_owned()));
    }
    let which = reference.digest.map_or(reference.tag, |digest| digest.to_string());
    Ok((reference.repository, which))
}

/// All names of a list in pages.
async fn names(client: &Client, path: &str, key: &str) -> Result<Vec<String>, ClientError> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let last = all.last().map(|last| format!("&last={last}")).unwrap_or_default();
        let page = match client.get(&format!("{path}?n={NAMES_PER_PAGE}{last}")).await {
            // A repository whose last tag has just gone.
            Err(ClientError::Refused { code: StatusCode::NOT_FOUND, .. }) => return Ok(all),
            page => page?,
        };
        let page = page[key].as_array().map(Vec::as_slice).unwrap_or_default();
        all.extend(page.iter().filter_map(Value::as_str).map(str::to_owned));
        if page.len() < NAMES_PER_PAGE {
            return Ok(all);
        }
    }
}

async fn find(client: &Client, name: &str, which: &str) -> Result<Option<Found>, ClientError> {
    let path = format!("/v2/{name}/manifests/{which}");
    let answer = client.send(Method::GET, &path, "application/json", Bytes::new()).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let answer = answer.success()?;
    let unreadable = |e: serde_json::Error| ClientError::Answer(e.to_string());
    let manifest: Value = serde_json::from_slice(&answer.body).map_err(unreadable)?;
    let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_module =
        |layer: &&Value| layer["mediaType"].as_str().is_some_and(|kind| kind.contains("wasm"));
    let module = layers.iter().find(is_module).cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Some(Found {
        digest: Digest::of(&answer.body),
        module: text(&module["digest"]),
        size: module["size"].as_u64().unwrap_or_default(),
        title: text(&module["annotations"]["org.opencontainers.image.title"]),
    }))
}

/// For people.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes}B"),
        10_000..10_000_000 => format!("{}kB", bytes / 1_000),
        _ => format!("{}MB", bytes / 1_000_000),
    }
}

/// In columns.
fn print<const N: usize>(rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = io::stdout().lock();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("   ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!([0, 9_999, 357_000, 18_400_000].map(size), ["0B", "9999B", "357kB", "18MB"]);
    }

    #[test]
    fn a_name_says_which_one_by_its_tag_or_digest() {
        for one in ["app:v1", "hub:6443/team/app:v1", "app@sha256:00", "hub:6443/app:v1@sha256:00"]
        {
            assert!(names_one(one), "{one}");
        }
        for several in ["app", "team/app", "hub:6443/app"] {
            assert!(!names_one(several), "{several}");
        }
    }
}
