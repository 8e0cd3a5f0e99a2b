//! Images: what is shown of them, and that a credential rests sealed and is erased.

use serde_json::json;

use super::TestApp;
use crate::keys::Scope;
use crate::reconcile::credential_place;
use crate::store::images::ImageState;

#[tokio::test]
async fn images_show_their_state_and_are_listed_newest_first() {
    let api = TestApp::new().await;
    let key = api.key(Scope::Read).await;
    let old = api.image_with(|image| image.created_ms -= 10).await;
    let new = api
        .image_with(|image| {
            (image.state, image.done_bytes, image.tenant) = (ImageState::Pulling, 250, Some("ann".into()));
        })
        .await;
    let image = api.get(&format!("/v1/image/{new}"), &key).await.expect(200);
    assert_eq!(
        (&image["state"], &image["progress"], &image["name"]),
        (&json!("pulling"), &json!(0.25), &json!("registry.test/app:1"))
    );
    let list = api.get("/v1/images?limit=1", &key).await.expect(200);
    assert_eq!(list["images"][0]["imageId"], new.as_str());
    let token = list["pagination"].as_str().unwrap();
    let rest = api.get(&format!("/v1/images?pagination={token}"), &key).await.expect(200);
    assert_eq!((&rest["images"][0]["imageId"], &rest["pagination"]), (&json!(old), &json!(null)));
    let anns = api.get("/v1/images?tenant=ann", &key).await.expect(200);
    assert_eq!(anns["images"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_credential_is_erased_when_the_image_is_there_or_failed() {
    let api = TestApp::new().await;
    for (digest, failed) in [("sha256:a", false), ("sha256:b", true)] {
        let id = api
            .image_with(|image| {
                image.credential = Some(api.app.sealer.seal(&credential_place(&image.id), b"geheim"));
                (image.state, image.digest, image.due_ms) = (ImageState::Pulling, digest.into(), Some(1));
            })
            .await;
        let image = api.app.store.image(&api.account, &id).await.unwrap().unwrap();
        assert!(api.app.store.claim_image(&image, 2).await.unwrap());
        if failed {
            let code = cakework_wire::host::ProblemCode::ImageInvalid;
            let why = cakework_wire::host::AgentProblem { code, message: "a layer is wrong".into() };
            api.app.store.image_failed(digest, &why, 3).await.unwrap();
        } else {
            api.app.store.image_ready(digest, 3).await.unwrap();
        }
        let image = api.app.store.image(&api.account, &id).await.unwrap().unwrap();
        assert_eq!((image.credential, image.due_ms), (None, None));
    }
    let key = api.key(Scope::Read).await;
    let images = api.get("/v1/images", &key).await.expect(200);
    let errors: Vec<_> = images["images"].as_array().unwrap().iter().map(|image| &image["error"]["code"]).collect();
    assert!(errors.contains(&&json!("image_invalid")), "{images:#}");
}
