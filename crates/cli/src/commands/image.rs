//! `cakework image …`

use std::time::Duration;

use cakework_api::image::{Image, ImageState, ImportedImage};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{items, typed};
use crate::args;
use crate::client::{Client, part};
use crate::failure::{Exit, Failure, Result};
use crate::progress::Work;
use crate::show;

/// Time between two looks at an image that arrives.
const LOOK: Duration = Duration::from_millis(200);
/// Where the password of a registry is read from.
const PASSWORD: &str = "CAKEWORK_REGISTRY_PASSWORD";

pub(super) async fn run(command: &args::Image) -> Result<Exit> {
    match command {
        args::Image::Import(options) => import(options).await,
        args::Image::List(options) => {
            let client = Client::new(&options.to)?;
            let query: Vec<_> = options.tenant.iter().map(|tenant| ("tenant", tenant.clone())).collect();
            let (raw, images): (_, Vec<Image>) = items(&client, "/v1/images", "images", &query, options.limit).await?;
            if options.to.json {
                show::json(&raw)?;
            } else {
                let now = Timestamp::now();
                let row = |image: Image| {
                    let state = match image.state {
                        ImageState::Pulling => format!("pulling {:.0} %", image.progress * 100.0),
                        ImageState::Ready => "ready".to_owned(),
                        ImageState::Failed => "failed".to_owned(),
                    };
                    vec![
                        image.image_id,
                        state,
                        show::bytes(image.size_bytes),
                        show::ago(&image.created_at, now),
                        image.name,
                    ]
                };
                show::table(&["IMAGE ID", "STATE", "SIZE", "CREATED", "NAME"], images.into_iter().map(row).collect());
            }
            Ok(Exit::Done)
        }
        args::Image::Show(options) => {
            let client = Client::new(&options.to)?;
            show::json(&client.get::<Value>(&format!("/v1/image/{}", part(&options.id)?), &[]).await?)?;
            Ok(Exit::Done)
        }
    }
}

async fn import(options: &args::ImageImport) -> Result<Exit> {
    let client = Client::new(&options.to)?;
    let mut body = json!({"imageUri": options.image});
    for (field, value) in [("username", &options.username), ("tenant", &options.tenant)] {
        if let Some(value) = value {
            body[field] = value.as_str().into();
        }
    }
    if let Some(password) = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty()) {
        body["password"] = password.into();
    }
    let work = Work::begin(&format!("asking for {}", options.image));
    let imported = client.make::<ImportedImage>("/v1/image/import", &body).await.map_err(|failure| {
        if failure.code.as_deref() == Some("registry_unauthorized") {
            failure.fix(format!("set {PASSWORD} to the registry's password, or user:password"))
        } else {
            failure
        }
    })?;
    drop(work);
    let image = arrive(&client, &imported.image_id).await?;
    if options.to.json {
        show::json(&image)?;
    } else {
        show::line(&imported.image_id);
    }
    Ok(Exit::Done)
}

/// Waits until an image is whole, with a bar; gives what the server says of it.
async fn arrive(client: &Client, id: &str) -> Result<Value> {
    let path = format!("/v1/image/{}", part(id)?);
    let mut work: Option<Work> = None;
    loop {
        let raw: Value = client.get(&path, &[]).await?;
        let image: Image = typed(raw.clone())?;
        let work = work.get_or_insert_with(|| Work::of_bytes("pulling", image.size_bytes));
        // It is a share of the bytes.
        work.at((image.progress * image.size_bytes as f64) as u64);
        match image.state {
            ImageState::Pulling => tokio::time::sleep(LOOK).await,
            ImageState::Ready => {
                let rest = format!("{}, {} in {}", image.name, show::bytes(image.size_bytes), work.seconds());
                work.bar().finish_and_clear();
                show::done("imported", &rest);
                return Ok(raw);
            }
            ImageState::Failed => {
                let why = image.error.map_or_else(|| "the import failed".to_owned(), |error| error.message);
                return Err(Failure::new(Exit::Failed, why));
            }
        }
    }
}
