//! Puts the image together: its configuration, and its layers in the store.
//!
//! Invariant: nothing in the configuration depends on when or where it was built, so that the same steps make the same
//! image.

use cakework_core::build::BuildErrorCode;
use cakework_image::BuiltImage;
use oci_spec::image::Arch;
use serde_json::{Value, json};

use super::ending::Ending;
use super::execute::Executor;
use super::stage::Built;

impl Executor<'_> {
    /// Keeps a stage as an image.
    ///
    /// # Errors
    /// It has no layers, too many, or finds no room.
    pub async fn export(&self, built: Built) -> Result<BuiltImage, Ending> {
        if built.layers.is_empty() {
            return Err(Ending::new(
                BuildErrorCode::DockerfileInvalid,
                "The image would be empty: the Dockerfile puts no file into it.",
            ));
        }
        let config = config(&built).to_string().into_bytes();
        let kept = self.parts.vm.images.keep_built(config, &built.layers).await;
        kept.map_err(|problem| Ending::image(BuildErrorCode::ImageTooLarge, problem))
    }
}

fn config(built: &Built) -> Value {
    let diff_ids: Vec<&str> = built.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    json!({
        "architecture": Arch::default().to_string(),
        "os": "linux",
        "config": built.config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": built.history,
    })
}
