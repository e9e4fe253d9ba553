//! Writing OCI image archives: layers, configuration and index in one tar file that `ctr images import` and
//! `docker load` read. Nothing of the machine gets in: files belong to root or to the user that is asked for, and
//! carry no time, so that the same content gives the same digests.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Not compressed: a local file is read faster than inflated.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Owner of a file in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u64);

pub(crate) const ROOT: Owner = Owner(0);

/// How an image is run.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
}

/// A finished layer, in a temporary file.
#[derive(Debug)]
pub(crate) struct Layer {
    digest: String,
    size: u64,
    file: File,
}

/// A layer that is being filled.
pub(crate) struct LayerBuilder {
    tar: tar::Builder<Hashing>,
}

struct Hashing {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl LayerBuilder {
    /// Starts a layer whose bytes wait in `scratch`, a folder on a disk with room for them.
    pub(crate) fn new(scratch: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(scratch)?;
        let hashing = Hashing { file, hash: Sha256::new(), size: 0 };
        Ok(Self { tar: tar::Builder::new(hashing) })
    }

    /// Adds a folder.
    pub(crate) fn dir(&mut self, path: &str, mode: u32, owner: Owner) -> io::Result<()> {
        let mut header = header(tar::EntryType::Directory, mode, owner, 0);
        self.tar.append_data(&mut header, path, io::empty())
    }

    /// Adds a file with this content.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut header = header(tar::EntryType::Regular, mode, ROOT, content.len() as u64);
        self.tar.append_data(&mut header, path, content)
    }

    /// Adds everything below `source`, root's, except what `keep` refuses; it sees paths relative to `source`.
    pub(crate) fn tree(&mut self, source: &Path, keep: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        self.tree_at(source, "", keep)
    }

    /// As [`Self::tree`], below the folder `target` of the image.
    pub(crate) fn tree_at(
        &mut self,
        source: &Path,
        target: &str,
        keep: &dyn Fn(&Path) -> bool,
    ) -> io::Result<()> {
        let mut found = Vec::new();
        list(source, Path::new(""), keep, &mut found)?;
        for path in found {
            self.copy(&source.join(&path), &Path::new(target).join(&path))?;
        }
        Ok(())
    }

    fn copy(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(source)?;
        // A strict umask of whoever makes the image must not lock out the user who runs it.
        let readable = if metadata.is_dir() { 0o555 } else { 0o444 };
        let mode = metadata.permissions().mode() & 0o7777 | readable;
        if metadata.is_symlink() {
            let mut header = header(tar::EntryType::Symlink, 0o777, ROOT, 0);
            self.tar.append_link(&mut header, target, fs::read_link(source)?)?;
        } else if metadata.is_dir() {
            let mut header = header(tar::EntryType::Directory, mode, ROOT, 0);
            self.tar.append_data(&mut header, target, io::empty())?;
        } else if metadata.is_file() {
            let mut header = header(tar::EntryType::Regular, mode, ROOT, metadata.len());
            self.tar.append_data(&mut header, target, File::open(source)?)?;
        }
        Ok(())
    }

    /// Ends the layer.
    pub(crate) fn finish(self) -> io::Result<Layer> {
        let Hashing { file, hash, size } = self.tar.into_inner()?;
        Ok(Layer { digest: format!("{:x}", hash.finalize()), size, file })
    }
}

/// Everything below a folder in a fixed order, folders before what is in them.
fn list(root: &Path, below: &Path, keep: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries: io::Result<Vec<_>> = fs::read_dir(root.join(below))?.collect();
    let mut entries = entries?;
    // The order of a folder differs between file systems.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = below.join(entry.file_name());
        if keep(&path) {
            found.push(path.clone());
            if entry.file_type()?.is_dir() {
                list(root, &path, keep, found)?;
            }
        }
    }
    Ok(())
}

fn header(kind: tar::EntryType, mode: u32, owner: Owner, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// Writes an archive with one image under several names, whole or not at all.
pub(crate) fn write(out: &Path, names: &[&str], run: &RunConfig, layers: Vec<Layer>) -> io::Result<()> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": run.entrypoint, "Cmd": run.command, "Env": run.environment,
            "User": run.user, "WorkingDir": run.working_dir,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))?;
    let described: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, &layer.digest, layer.size)).collect();
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &digest(&config), config.len() as u64),
        "layers": described,
    }))?;
    let index = index(names, &descriptor(MANIFEST, &digest(&manifest), manifest.len() as u64));

    write_whole(out, |file| {
        let mut archive = tar::Builder::new(file);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", &serde_json::to_vec(&index)?)?;
        for blob in [&config, &manifest] {
            append(&mut archive, &blob_path(&digest(blob)), blob)?;
        }
        for mut layer in layers {
            layer.file.rewind()?;
            let mut header = header(tar::EntryType::Regular, 0o644, ROOT, layer.size);
            archive.append_data(&mut header, blob_path(&layer.digest), layer.file)?;
        }
        archive.into_inner()?.flush()
    })
}

/// Copies an archive so that its image has these names instead.
pub(crate) fn rename(archive: &Path, out: &Path, names: &[&str]) -> io::Result<()> {
    let mut source = tar::Archive::new(File::open(archive)?);
    write_whole(out, |file| {
        let mut copy = tar::Builder::new(file);
        for entry in source.entries()? {
            let mut entry = entry?;
            let mut header = entry.header().clone();
            let path = entry.path()?.into_owned();
            if path == Path::new("index.json") {
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                let old: Value = serde_json::from_str(&text)?;
                let new = index(names, &old["manifests"][0]);
                append(&mut copy, "index.json", &serde_json::to_vec(&new)?)?;
            } else {
                copy.append_data(&mut header, path, entry)?;
            }
        }
        copy.into_inner()?.flush()
    })
}

/// Copies an archive of one image with one more layer on top, under other names.
pub(crate) fn extend(archive: &Path, out: &Path, names: &[&str], mut layer: Layer) -> io::Result<()> {
    let index_of = json_in(archive, Path::new("index.json"))?;
    let old_manifest = blob_named(&index_of["manifests"][0]["digest"]);
    let mut manifest = json_in(archive, &old_manifest)?;
    let old_config = blob_named(&manifest["config"]["digest"]);
    let mut config = json_in(archive, &old_config)?;
    push(&mut config["rootfs"]["diff_ids"], json!(format!("sha256:{}", layer.digest)));
    let config = serde_json::to_vec(&config)?;
    manifest["config"] = descriptor(CONFIG, &digest(&config), config.len() as u64);
    push(&mut manifest["layers"], descriptor(LAYER, &layer.digest, layer.size));
    let manifest = serde_json::to_vec(&manifest)?;
    let index = index(names, &descriptor(MANIFEST, &digest(&manifest), manifest.len() as u64));

    let mut source = tar::Archive::new(File::open(archive)?);
    write_whole(out, |file| {
        let mut copy = tar::Builder::new(file);
        for entry in source.entries()? {
            let entry = entry?;
            let mut header = entry.header().clone();
            let path = entry.path()?.into_owned();
            if ![Path::new("index.json"), &old_manifest, &old_config].contains(&path.as_path()) {
                copy.append_data(&mut header, path, entry)?;
            }
        }
        append(&mut copy, "index.json", &serde_json::to_vec(&index)?)?;
        for blob in [&config, &manifest] {
            append(&mut copy, &blob_path(&digest(blob)), blob)?;
        }
        layer.file.rewind()?;
        let mut header = header(tar::EntryType::Regular, 0o644, ROOT, layer.size);
        copy.append_data(&mut header, blob_path(&layer.digest), layer.file)?;
        copy.into_inner()?.flush()
    })
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

/// Where the blob with this digest (`sha256:...`) is.
fn blob_named(digest: &Value) -> PathBuf {
    let digest = digest.as_str().unwrap_or_default();
    PathBuf::from(blob_path(digest.strip_prefix("sha256:").unwrap_or(digest)))
}

/// The JSON file of this path in an archive.
fn json_in(archive: &Path, path: &Path) -> io::Result<Value> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()? == path {
            return Ok(serde_json::from_reader(entry)?);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no {} in the archive", path.display())))
}

/// Names and manifest digests (`sha256:...`) of the images in an archive.
pub(crate) fn names(archive: &Path) -> io::Result<Vec<(String, String)>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()? == Path::new("index.json") {
            let index: Value = serde_json::from_reader(entry)?;
            let manifests = index["manifests"].as_array().into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Ok(manifests
                .map(|entry| {
                    (text(&entry["annotations"]["io.containerd.image.name"]), text(&entry["digest"]))
                })
                .collect());
        }
    }
    Ok(Vec::new())
}

/// One entry a name, each for the same manifest: this is how `docker save` and containerd name images in an archive.
fn index(names: &[&str], manifest: &Value) -> Value {
    let entry = |name: &&str| {
        let mut entry = manifest.clone();
        entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        entry
    };
    json!({"schemaVersion": 2, "manifests": names.iter().map(entry).collect::<Vec<_>>()})
}

fn write_whole(out: &Path, fill: impl FnOnce(io::BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let partial = PathBuf::from(format!("{}.partial", out.display()));
    fill(io::BufWriter::new(File::create(&partial)?))?;
    fs::rename(&partial, out)
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o644, ROOT, content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

/// This machine's architecture as Go and OCI call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
