use super::*;
use flate2::write::GzEncoder;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// One entry of a layer: kind (`f`ile, `d`irectory, `l`ink, `h`ard link, `c`har device), path, content or target.
type Entry<'a> = (char, &'a str, &'a str);

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(if *kind == 'd' { 0o755 } else { 0o644 });
        header.set_mtime(1_700_000_000);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(0);
        // Written raw, because the builder would refuse the hostile names that are tested here.
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        let link = content.as_bytes();
        let mut body: &[u8] = &[];
        let kind = match kind {
            'f' => {
                header.set_size(content.len() as u64);
                body = content.as_bytes();
                tar::EntryType::Regular
            }
            'd' => tar::EntryType::Directory,
            'c' => {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
                tar::EntryType::Char
            }
            kind => {
                header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
                if *kind == 'l' {
                    tar::EntryType::Symlink
                } else {
                    tar::EntryType::Link
                }
            }
        };
        header.set_entry_type(kind);
        header.set_cksum();
        tar.append(&header, body).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive file by file.
fn archive_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The files of an OCI layout with one image of the given layers; odd layers are gzipped.
fn layout(layers: &[Vec<u8>], name: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![(
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    )];
    let mut put = |bytes: Vec<u8>| {
        let digest = blobs::digest_of(&bytes);
        let size = bytes.len() as u64;
        files.push((digest.replace("sha256:", "blobs/sha256/"), bytes));
        (digest, size)
    };
    let diff_ids: Vec<String> = layers.iter().map(|l| blobs::digest_of(l)).collect();
    let config = serde_json::json!({
        "architecture": model::native_architecture(), "os": "linux",
        "config": {"User": "7:8", "Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(config.to_string().into_bytes());
    let layers: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(i, l)| put(if i % 2 == 1 { gzip(l) } else { l.clone() }))
        .map(|(digest, size)| serde_json::json!({"mediaType": "x", "digest": digest, "size": size}))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": {"digest": config.0, "size": config.1}, "layers": layers,
    });
    let manifest = put(manifest.to_string().into_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": model::MANIFEST, "digest": manifest.0, "size": manifest.1,
        "annotations": {"org.opencontainers.image.ref.name": name},
    }]});
    files.push(("index.json".into(), index.to_string().into_bytes()));
    files
}

/// Unpacking wants root: it sets owners and mounts.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: not root");
    }
    root
}

/// What the topmost directories of all layers merged show, through an overlay in a namespace of its own.
fn merged<T: Send>(store: &ImageStore, dir: &Path, id: &str, look: impl Fn(&Path) -> T + Send + Sync) -> T {
    let index = store.index().unwrap();
    let record = &index.images[id];
    let names: Vec<&str> = record
        .layers
        .iter()
        .map(|l| unpack::layer_dir_name(&l.chain_id))
        .collect();
    let at = dir.join("view");
    for sub in ["", "up", "work", "merged"] {
        fs::create_dir_all(at.join(sub)).unwrap();
    }
    unpack::in_own_mount_namespace(|| {
        let layers = store.layers_dir();
        let options = unpack::overlay_options(&layers, &names, &at.join("up"), &at.join("work"))?;
        rustix::process::chdir(&layers).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("overlay", at.join("merged"), "overlay", flags, options.as_c_str()).unwrap();
        rustix::process::chdir("/").unwrap();
        Ok(look(&at.join("merged")))
    })
    .unwrap()
}

#[test]
fn layers_merge_with_whiteouts_links_and_hostile_paths() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let base = tar_of(&[
        ('d', "./", ""),
        ('d', "bin", ""),
        ('f', "bin/sh", "shell"),
        ('h', "bin/ash", "bin/sh"),
        ('l', "lib", "usr/lib"),
        ('d', "usr/lib", ""),
        ('d', "tmp", ""),
        ('f', "gone", "x"),
        ('d', "replaced", ""),
        ('f', "replaced/old", "x"),
        ('d', "opaque", ""),
        ('f', "opaque/old", "x"),
        ('l', "up", "../../../../../../tmp"),
        ('c', "null", ""),
    ]);
    let top = tar_of(&[
        ('f', "lib/libc.so", "c"),
        ('f', "tmp/file", "t"),
        ('f', ".wh.gone", ""),
        ('f', "opaque/new", "n"),
        ('f', "opaque/.wh..wh..opq", ""),
        ('f', "replaced", "a file now"),
        ('h', "sh2", "bin/sh"),
        ('f', "up/evil", "no"),
    ]);
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    let archive = dir.path().join("a.tar");
    fs::write(
        &archive,
        archive_of(&layout(&[base, top], "registry.example/x:1")),
    )
    .unwrap();
    let images = store.import(&archive).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].tags, ["registry.example/x:1"]);
    assert_eq!(images[0].uid, Some(7));
    assert_eq!(
        store.import(&archive).unwrap(),
        images,
        "importing again changes nothing"
    );
    merged(&store, dir.path(), &images[0].id, |root| {
        let text = |p: &str| fs::read_to_string(root.join(p)).unwrap();
        assert_eq!(text("bin/sh"), "shell");
        assert_eq!(fs::metadata(root.join("bin/ash")).unwrap().nlink(), 2);
        assert_eq!(
            text("usr/lib/libc.so"),
            "c",
            "the link in the path was followed within the image"
        );
        assert_eq!(text("sh2"), "shell", "a hard link reaches the layer below");
        assert_eq!(
            text("tmp/evil"),
            "no",
            "a link that points out of the image stays within"
        );
        assert!(!root.join("gone").exists());
        assert_eq!(text("replaced"), "a file now");
        assert!(!root.join("opaque/old").exists());
        assert_eq!(text("opaque/new"), "n");
        let meta = fs::metadata(root.join("tmp")).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777),
            (7, 8, 0o755)
        );
        assert_eq!(
            fs::metadata(root.join("usr/lib/libc.so")).unwrap().mtime(),
            1_700_000_000
        );
        assert!(
            fs::metadata(root.join("null"))
                .unwrap()
                .file_type()
                .is_char_device()
        );
    });
}

#[test]
fn every_kind_of_archive_gives_the_same_image() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layer = tar_of(&[('f', "hello", "world")]);
    let files = layout(std::slice::from_ref(&layer), "busybox:1");
    let mut found = Vec::new();
    let tar = archive_of(&files);
    for (name, bytes) in [("a.tar", tar.clone()), ("b.tar.gz", gzip(&tar))] {
        let store = ImageStore::open(dir.path().join(format!("{name}-store"))).unwrap();
        fs::write(dir.path().join(name), bytes).unwrap();
        found.push(store.import(&dir.path().join(name)).unwrap());
    }
    let layout_dir = dir.path().join("layout");
    for (path, bytes) in &files {
        let path = layout_dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let store = ImageStore::open(dir.path().join("dir-store")).unwrap();
    found.push(store.import(&layout_dir).unwrap());
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    assert_eq!(found[0][0].tags, ["docker.io/library/busybox:1"]);

    // docker save of old: layers by path, a configuration by its hash, names in manifest.json.
    let config = files
        .iter()
        .find(|(_, b)| b.starts_with(b"{\"architecture\""))
        .unwrap()
        .1
        .clone();
    let hex = blobs::digest_of(&config).replace("sha256:", "");
    let manifest = serde_json::json!([{"Config": format!("{hex}.json"), "RepoTags": ["busybox:1"], "Layers": ["l/layer.tar"]}]);
    let saved = archive_of(&[
        ("l/layer.tar".into(), layer),
        (format!("{hex}.json"), config),
        ("manifest.json".into(), manifest.to_string().into_bytes()),
    ]);
    let path = dir.path().join("saved.tar");
    fs::write(&path, saved).unwrap();
    let store = ImageStore::open(dir.path().join("saved-store")).unwrap();
    let images = store.import(&path).unwrap();
    assert_eq!(images[0].id, found[0][0].id);
    assert_eq!(images[0].tags, found[0][0].tags);
}

#[test]
fn damage_is_named_and_leaves_nothing() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    let good = layout(&[tar_of(&[('f', "a", "a")])], "x:1");
    let check = |bytes: Vec<u8>, expected: &str| {
        let path = dir.path().join("bad.tar");
        fs::write(&path, bytes).unwrap();
        let error = store.import(&path).unwrap_err().chain();
        assert!(error.contains("bad.tar") && error.contains(expected), "{error}");
        assert_eq!(store.list().unwrap(), []);
        assert_eq!(store.blobs.list().unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_dir(store.layers_dir()).unwrap().count(), 0);
    };
    let mut flipped = good.clone();
    flipped[1].1[3] ^= 1;
    check(archive_of(&flipped), "digest");
    let mut short = archive_of(&good);
    short.truncate(700);
    check(short, "tar archive");
    let missing: Vec<_> = good
        .iter()
        .filter(|(p, b)| !(p.contains("blobs") && b.len() > 1000))
        .cloned()
        .collect();
    check(archive_of(&missing), "missing");
    check(b"not a tar".repeat(100), "");
    check(archive_of(&[("hello".into(), b"x".to_vec())]), "neither");
    check(
        archive_of(&layout(&[tar_of(&[('f', "../evil", "x")])], "x:1")),
        "points outside",
    );
    check(
        archive_of(&layout(
            &[b"no tar at all, but long enough to be taken for a header".repeat(40)],
            "x:1",
        )),
        "layer",
    );
}

#[test]
fn built_images_are_reproducible_named_and_removed() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    let files = [
        ImageFile::new("/bin/app", 0o755, *b"#!"),
        ImageFile::symlink("/bin/sh", "app"),
    ];
    let config = ImageConfig {
        entrypoint: vec!["/bin/app".into()],
        user: "nobody".into(),
        ..Default::default()
    };
    let names = ["demo:v1".to_owned(), "demo:v2".to_owned()];
    let image = store.build(&names, &files, &config).unwrap();
    assert_eq!(image, store.build(&names, &files, &config).unwrap());
    assert_eq!(
        image.tags,
        ["docker.io/library/demo:v1", "docker.io/library/demo:v2"]
    );
    assert_eq!((image.uid, image.username.as_str()), (None, "nobody"));
    assert_eq!(store.get("demo:v2").unwrap().unwrap().id, image.id);
    assert_eq!(store.get(&image.digests[0]).unwrap().unwrap().id, image.id);
    assert_eq!(store.get(&image.id).unwrap().unwrap().id, image.id);
    assert!(store.get("demo").unwrap().is_none());

    let other = store.build(&names[..1], &files[..1], &config).unwrap();
    assert_ne!(other.id, image.id);
    assert_eq!(
        store.get("demo:v1").unwrap().unwrap().id,
        other.id,
        "a name moves"
    );

    let resolved = store.pin("c1", "demo:v2").unwrap();
    assert_eq!(resolved.config, config);
    store.remove("demo:v2").unwrap();
    store.remove("demo:v2").unwrap();
    assert!(store.get(&image.id).unwrap().is_none());
    let layer = store.layers_dir().join(&resolved.layers[0]);
    assert!(
        layer.join("fs/bin/app").is_file(),
        "what a container is made of stays"
    );
    store.unpin("c1").unwrap();
    store.unpin("c1").unwrap();
    assert!(!layer.exists());
    store.remove(&other.id).unwrap();
    assert_eq!(store.blobs.list().unwrap(), Vec::<String>::new());
    assert!(matches!(store.pin("c2", "demo:v1"), Err(Error::NoImage { .. })));
}

#[test]
fn an_index_of_platforms_gives_this_machines_image() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut files = layout(&[tar_of(&[('f', "a", "a")])], "x:1");
    let index: serde_json::Value = serde_json::from_slice(&files.pop().unwrap().1).unwrap();
    let mut own = index["manifests"][0].clone();
    own["platform"] = serde_json::json!({"os": "linux", "architecture": model::native_architecture()});
    own["annotations"] = serde_json::json!({});
    // The other platform's blobs and the attestation were left out, as `docker save` does.
    let platforms = serde_json::json!({"schemaVersion": 2, "manifests": [
        {"mediaType": model::MANIFEST, "digest": format!("sha256:{}", "1".repeat(64)), "size": 1,
         "platform": {"os": "linux", "architecture": "s390x"}},
        own,
        {"mediaType": model::MANIFEST, "digest": format!("sha256:{}", "2".repeat(64)), "size": 1,
         "platform": {"os": "unknown", "architecture": "unknown"}},
    ]});
    let platforms = platforms.to_string().into_bytes();
    let digest = blobs::digest_of(&platforms);
    let top = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": model::INDEX, "digest": digest, "size": platforms.len(),
        "annotations": {"io.containerd.image.name": "registry.example/y:2", "org.opencontainers.image.ref.name": "2"},
    }]});
    files.push((digest.replace("sha256:", "blobs/sha256/"), platforms));
    files.push(("index.json".into(), top.to_string().into_bytes()));
    let path = dir.path().join("y.tar");
    fs::write(&path, archive_of(&files)).unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    let images = store.import(&path).unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].tags, ["registry.example/y:2"]);
    // A bare tag is put on the archive's own name.
    let files = layout(&[tar_of(&[('f', "b", "b")])], "7");
    let path = dir.path().join("myapp.tar");
    fs::write(&path, archive_of(&files)).unwrap();
    assert_eq!(
        store.import(&path).unwrap()[0].tags,
        ["docker.io/library/myapp:7"]
    );
}
