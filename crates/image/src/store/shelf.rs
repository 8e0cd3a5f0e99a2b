//! Which layers may go, and when.
//!
//! A layer is needed by an image on the disk, by a cached step, or by a build that runs and has seen it. What a build
//! has seen nobody knows; so a layer that neither image nor step needs is first condemned, and removed once every build
//! that ran at that time has ended: later ones can't learn of it, unless they make it anew, which spares it.
//!
//! Invariant: whoever gives a layer to an image or a step holds the shelf from the look at the layer until the image or
//! step is on the disk, and so does who removes layers. The shelf is locked before the images.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use super::steps::{self, Record};
use super::{ImageStore, Inner, Known, State, diff_ids, disk};
use crate::digest::Digest;
use crate::problem::internal;

/// Most steps that are remembered, whether they have layers or not.
const STEPS_MAX: usize = 100_000;

/// What is known of layers beyond the disk.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Counts up with each build and each condemnation.
    now: u64,
    /// When each of the builds that run began.
    pins: BTreeSet<u64>,
    condemned: HashMap<Digest, u64>,
    /// Bytes of layers that were made here, or that a step names.
    sizes_bytes: HashMap<Digest, u64>,
}

impl Shelf {
    /// A layer is needed anew.
    pub fn spare(&mut self, diff_id: &Digest, size_bytes: u64) {
        self.condemned.remove(diff_id);
        self.sizes_bytes.insert(diff_id.clone(), size_bytes);
    }

    /// Condemns layers that nobody needs, and pardons all others; answers which are to be removed now, and their bytes.
    fn condemn(&mut self, unneeded: &HashSet<Digest>) -> Vec<(Digest, u64)> {
        self.now += 1;
        self.condemned.retain(|diff_id, _| unneeded.contains(diff_id));
        for diff_id in unneeded {
            self.condemned.entry(diff_id.clone()).or_insert(self.now);
        }
        let oldest = self.pins.first().copied().unwrap_or(u64::MAX);
        let due: Vec<_> =
            self.condemned.iter().filter(|(_, at)| **at < oldest).map(|(diff_id, _)| diff_id.clone()).collect();
        let gone = due.into_iter().map(|diff_id| {
            self.condemned.remove(&diff_id);
            let size_bytes = self.sizes_bytes.remove(&diff_id).unwrap_or(0);
            (diff_id, size_bytes)
        });
        gone.collect()
    }
}

impl ImageStore {
    /// Forgets steps that were not used for `max_age_secs`, then the longest unused ones until all layers that only
    /// steps keep have at most `max_bytes`; removes layers that neither an image nor a step nor a build that runs
    /// ([`Self::pin`]) needs. Answers the bytes that were freed, as compressed.
    pub async fn collect(&self, max_bytes: u64, max_age_secs: u64) -> u64 {
        let inner = Arc::clone(&self.inner);
        let oldest = SystemTime::now().checked_sub(Duration::from_secs(max_age_secs));
        let collected = tokio::task::spawn_blocking(move || {
            let (unnamed, freed_bytes) = inner.collect(max_bytes, oldest.unwrap_or(SystemTime::UNIX_EPOCH))?;
            unnamed.iter().try_for_each(|path| disk::remove(path))?;
            Ok::<_, io::Error>(freed_bytes)
        });
        match collected.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(freed_bytes) => freed_bytes,
            Err(error) => {
                // The next time goes on with it, and so does the next start.
                internal("removing unused layers", error);
                0
            }
        }
    }

    /// Keeps every layer that is here or comes, while the value lives: a build runs.
    pub fn pin(&self) -> Pin {
        let mut shelf = self.inner.shelf();
        shelf.now += 1;
        let began = shelf.now;
        shelf.pins.insert(began);
        drop(shelf);
        Pin { shelf: Arc::clone(&self.inner.shelf), began }
    }
}

/// While one lives, [`ImageStore::collect`] removes no layer that its holder can have seen.
#[derive(Debug)]
pub struct Pin {
    shelf: Arc<Mutex<Shelf>>,
    began: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        lock(&self.shelf).pins.remove(&self.began);
    }
}

impl Inner {
    /// Takes hold of the shelf. Not to be held across an await.
    pub fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }

    /// Takes the names of layers away; answers what is then to be removed, and the bytes. Blocking.
    fn collect(&self, max_bytes: u64, oldest: SystemTime) -> io::Result<(Vec<PathBuf>, u64)> {
        let disk = &self.fetcher.disk;
        let mut shelf = self.shelf();
        let of_images = self.layers_of_images()?;
        let mut records = steps::list(&disk.steps())?;
        for (diff_id, size_bytes) in records.iter().filter_map(|record| record.layer.as_ref()) {
            shelf.sizes_bytes.insert(diff_id.clone(), *size_bytes);
        }
        for record in unwanted(&mut records, &of_images, max_bytes, oldest) {
            steps::forget(&record)?;
        }
        let of_steps: HashSet<_> = records.into_iter().filter_map(|record| record.layer).map(|(id, _)| id).collect();
        let is_needed = |diff_id: &Digest| of_images.contains(diff_id) || of_steps.contains(diff_id);
        let unneeded = disk.layers()?.into_iter().filter(|diff_id| !is_needed(diff_id)).collect();
        let (mut unnamed, mut freed_bytes) = (Vec::new(), 0);
        for (diff_id, size_bytes) in shelf.condemn(&unneeded) {
            unnamed.extend(disk.unname_layer(&diff_id));
            freed_bytes += size_bytes;
        }
        Ok((unnamed, freed_bytes))
    }

    /// Those of images that are on their way too: their documents come first.
    fn layers_of_images(&self) -> io::Result<HashSet<Digest>> {
        let images = self.fetcher.disk.images(&self.config.limits)?;
        let mut layers: HashSet<_> = images.iter().flat_map(|(_, plan)| diff_ids(plan)).collect();
        let known = self.images();
        let usable = known.values().filter(|known| !matches!(known.state, State::Failed(_)));
        layers.extend(usable.flat_map(|known| known.layers.iter().cloned()));
        Ok(layers)
    }

    /// Takes the names of an image that can't ever be used and of its layers that nobody else needs; answers what is
    /// then to be removed. Blocking.
    pub fn unname_hopeless(&self, digest: &Digest, layers: &HashSet<Digest>) -> io::Result<Vec<PathBuf>> {
        let disk = &self.fetcher.disk;
        let shelf = self.shelf();
        if !matches!(self.images().get(digest), Some(Known { state: State::Failed(_), .. })) {
            // It is pulled again already.
            return Ok(Vec::new());
        }
        let mut unnamed: Vec<_> = disk.unname_image(digest).into_iter().collect();
        // A build that runs may have seen them; they wait for the next collection then.
        if shelf.pins.is_empty() {
            let of_images = self.layers_of_images()?;
            let records = steps::list(&disk.steps())?;
            let of_steps: HashSet<_> =
                records.into_iter().filter_map(|record| record.layer).map(|(id, _)| id).collect();
            let own = layers.iter().filter(|diff_id| !of_images.contains(diff_id) && !of_steps.contains(diff_id));
            unnamed.extend(own.filter_map(|diff_id| disk.unname_layer(diff_id)));
        }
        Ok(unnamed)
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().expect("no panic while it is held")
}

/// Takes out of `records` those that are to be forgotten.
fn unwanted(records: &mut Vec<Record>, of_images: &HashSet<Digest>, max_bytes: u64, oldest: SystemTime) -> Vec<Record> {
    records.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
    let young = records.partition_point(|record| record.used >= oldest).min(STEPS_MAX);
    let mut unwanted = records.split_off(young);
    let mut users: HashMap<Digest, u64> = HashMap::new();
    let mut total_bytes = 0_u64;
    for (diff_id, size_bytes) in records.iter().filter_map(|record| record.layer.as_ref()) {
        if !of_images.contains(diff_id) {
            let count = users.entry(diff_id.clone()).or_insert(0);
            total_bytes += if *count == 0 { *size_bytes } else { 0 };
            *count += 1;
        }
    }
    let mut kept = Vec::with_capacity(records.len());
    // The longest unused one first.
    for record in std::mem::take(records).into_iter().rev() {
        let counted =
            record.layer.as_ref().and_then(|(diff_id, bytes)| users.get_mut(diff_id).map(|count| (count, *bytes)));
        match counted {
            Some((count, size_bytes)) if total_bytes > max_bytes => {
                *count -= 1;
                total_bytes -= if *count == 0 { size_bytes } else { 0 };
                unwanted.push(record);
            }
            _ => kept.push(record),
        }
    }
    *records = kept;
    unwanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn record(name: &str, used_secs: u64, layer: Option<(&str, u64)>) -> Record {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used_secs);
        Record { path: name.into(), used, layer: layer.map(|(name, bytes)| (digest(name), bytes)) }
    }

    fn forgotten(max_bytes: u64, oldest_secs: u64) -> Vec<String> {
        let mut records = vec![
            record("new", 9, Some(("a", 10))),
            record("empty", 3, None),
            record("old", 4, Some(("b", 20))),
            record("again", 8, Some(("b", 20))),
            record("image", 2, Some(("i", 1000))),
            record("oldest", 1, Some(("c", 40))),
        ];
        let of_images = [digest("i")].into();
        let oldest = SystemTime::UNIX_EPOCH + Duration::from_secs(oldest_secs);
        let all = records.len();
        let mut names: Vec<_> = unwanted(&mut records, &of_images, max_bytes, oldest)
            .into_iter()
            .map(|record| record.path.to_str().expect("UTF-8").to_owned())
            .collect();
        assert_eq!(records.len() + names.len(), all);
        names.sort();
        names
    }

    #[test]
    fn steps_are_forgotten_by_age_and_then_by_use() {
        assert_eq!(forgotten(70, 0), [""; 0], "a layer counts once, one that an image has not at all");
        assert_eq!(forgotten(69, 0), ["oldest"]);
        assert_eq!(forgotten(29, 0), ["again", "old", "oldest"], "a layer goes with its last step");
        assert_eq!(forgotten(0, 0), ["again", "new", "old", "oldest"]);
        assert_eq!(forgotten(u64::MAX, 4), ["empty", "image", "oldest"]);
        assert_eq!(forgotten(10, 4), ["again", "empty", "image", "old", "oldest"]);
    }

    #[test]
    fn a_condemned_layer_waits_for_the_builds_that_may_know_it() {
        let mut shelf = Shelf::default();
        let all: HashSet<_> = [digest("x"), digest("y")].into();
        let pin = |shelf: &mut Shelf| {
            shelf.now += 1;
            shelf.pins.insert(shelf.now);
            shelf.now
        };
        let early = pin(&mut shelf);
        assert_eq!(shelf.condemn(&all), []);
        let late = pin(&mut shelf);
        assert_eq!(shelf.condemn(&all), [], "the early build still runs");
        shelf.spare(&digest("y"), 5);
        shelf.pins.remove(&early);
        assert_eq!(shelf.condemn(&all), [(digest("x"), 0)], "the late build can't know x, but made y");
        shelf.pins.remove(&late);
        assert_eq!(shelf.condemn(&[].into()), [], "a step needs y again");
        assert_eq!(shelf.condemn(&[digest("y")].into()), [(digest("y"), 5)]);
    }
}
