//! `gen-schema`: makes `orch-api/kinds/data/schema-v1.36.tsv`, the structural type table of the built-in kinds,
//! from a Kubernetes source tree.
//!
//! Facts only: names, types, flags, merge facts, defaults. Three sources are joined: `api/openapi-spec/swagger.json`
//! (types, references, list and patch facts), `api/openapi-spec/v3/*.json` (defaults) and the Go type declarations
//! (which fields are written when empty, pointer or not, named scalar types, enum values).
//! The line format is described at the top of the file it writes and in `orch_kinds::schema`.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Runs the subcommand: `gen-schema UPSTREAM_DIR [OUT_FILE]`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [upstream, rest @ ..] = args else {
        bail!("usage: gen-schema UPSTREAM_DIR [OUT_FILE]")
    };
    let out = rest
        .first()
        .map_or("orch-api/kinds/data/schema-v1.36.tsv", String::as_str);
    let upstream = Path::new(upstream);
    let swagger: Value = read_json(&upstream.join("api/openapi-spec/swagger.json"))?;
    let definitions = swagger["definitions"].as_object().context("no definitions")?;
    let defaults = v3_defaults(&upstream.join("api/openapi-spec/v3"))?;
    let mut go = GoSources::new(upstream);
    let text = render(definitions, &defaults, &mut go)?;
    std::fs::write(out, &text).with_context(|| format!("writing {out}"))?;
    println!("{out}: {} types, {} bytes", definitions.len(), text.len());
    Ok(())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// `(type, field) -> default`, from the v3 documents.
fn v3_defaults(dir: &Path) -> Result<BTreeMap<(String, String), Value>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let document = read_json(&entry?.path())?;
        let Some(schemas) = document.pointer("/components/schemas").and_then(Value::as_object) else {
            continue;
        };
        for (name, schema) in schemas {
            for (field, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default") {
                    found.insert((name.clone(), field.clone()), default.clone());
                }
            }
        }
    }
    Ok(found)
}

const HEAD: &str = "\
# Structural facts of the Kubernetes v1.36 API types; made by `cargo xtask gen-schema`, do not edit.
# A line that starts with = opens a type: =NAME (without io.k8s.), facts. The lines below it are its fields:
# name, type, facts. Type: s string, i int32, l int64, n double, b bool, B bytes, t Time, T MicroTime, q Quantity,
# x int-or-string, * anything, R embedded object, [T list of T, {T map to T, @NAME another type.
# Facts: r required, a atomic map or struct, g granular though its type is atomic, L=a|s|m:KEY,KEY list type, S=STRATEGY, K=MERGEKEY, d default is the
# zero value, D=JSON default, o omitted when empty, z omitted when zero, p pointer, G=Go type, E=a|b|c enum values,
# V=group/version/Kind of a type that is a kind.
";

fn render(
    definitions: &Map<String, Value>,
    defaults: &BTreeMap<(String, String), Value>,
    go: &mut GoSources<'_>,
) -> Result<String> {
    let mut text = String::from(HEAD);
    // Sorted by name, so that the reader can look names up by binary search.
    let sorted: BTreeMap<_, _> = definitions.iter().map(|(n, d)| (short(n), (n, d))).collect();
    for (short_name, (name, schema)) in sorted {
        let mut facts = Vec::new();
        if schema["x-kubernetes-map-type"] == "atomic" {
            facts.push("a".to_owned());
        }
        for gvk in schema["x-kubernetes-group-version-kind"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let part = |k: &str| gvk[k].as_str().unwrap_or_default();
            facts.push(format!(
                "V={}/{}/{}",
                part("group"),
                part("version"),
                part("kind")
            ));
        }
        if schema.get("properties").is_none() {
            facts.push(format!("={}", leaf_type(name)));
        }
        writeln!(text, "={short_name}\t{}", facts.join(" "))?;
        let required: BTreeSet<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let go_fields = go.fields_of(name)?;
        let fields: BTreeMap<_, _> = schema["properties"].as_object().into_iter().flatten().collect();
        for (field, property) in fields {
            let ty = type_code(property)?;
            let mut facts = merge_facts(property);
            if required.contains(field.as_str()) {
                facts.push("r".into());
            }
            if let Some(default) = defaults.get(&(name.clone(), field.clone())) {
                facts.push(if is_zero(default) {
                    "d".into()
                } else {
                    format!("D={default}")
                });
            }
            match go_fields.get(field) {
                Some(f) => facts.extend(f.facts(&ty)),
                None => eprintln!("no Go field for {name}.{field}"),
            }
            facts.sort();
            writeln!(text, "{field}\t{ty}\t{}", facts.join(" "))?;
        }
    }
    Ok(text)
}

fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.").unwrap_or(name)
}

fn is_zero(v: &Value) -> bool {
    match v {
        Value::String(s) => s.is_empty(),
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::Bool(b) => !b,
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

/// Types without properties: what their JSON form is.
fn leaf_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "Quantity" => "q",
        "IntOrString" => "x",
        "Time" => "t",
        "MicroTime" => "T",
        "RawExtension" => "R",
        "FieldsV1" | "JSON" | "Patch" => "*",
        n if n.starts_with("JSONSchemaPropsOr") => "*",
        _ => "",
    }
}

fn type_code(p: &Value) -> Result<String> {
    if let Some(reference) = p["$ref"].as_str() {
        let name = reference.trim_start_matches("#/definitions/");
        let leaf = leaf_type(name);
        return Ok(if leaf.is_empty() {
            format!("@{}", short(name))
        } else {
            leaf.into()
        });
    }
    Ok(match (p["type"].as_str(), p["format"].as_str()) {
        (Some("string"), Some("byte")) => "B".into(),
        (Some("string"), None) => "s".into(),
        (Some("integer"), Some("int32")) => "i".into(),
        (Some("integer"), _) => "l".into(),
        (Some("number"), _) => "n".into(),
        (Some("boolean"), _) => "b".into(),
        (Some("array"), _) => format!("[{}", type_code(&p["items"])?),
        (Some("object"), _) => match p.get("additionalProperties") {
            Some(value) => format!("{{{}", type_code(value)?),
            None => "*".into(),
        },
        (None, _) => "*".into(),
        other => bail!("unknown type {other:?}"),
    })
}

fn merge_facts(p: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    match p["x-kubernetes-list-type"].as_str() {
        Some("atomic") => facts.push("L=a".into()),
        Some("set") => facts.push("L=s".into()),
        Some("map") => {
            let keys: Vec<&str> = p["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            facts.push(format!("L=m:{}", keys.join(",")));
        }
        _ => {}
    }
    match p["x-kubernetes-map-type"].as_str() {
        Some("atomic") => facts.push("a".into()),
        Some("granular") => facts.push("g".into()),
        _ => {}
    }
    if let Some(strategy) = p["x-kubernetes-patch-strategy"].as_str() {
        facts.push(format!("S={strategy}"));
    }
    if let Some(key) = p["x-kubernetes-patch-merge-key"].as_str() {
        facts.push(format!("K={key}"));
    }
    facts
}

/// One Go struct field, as far as its JSON form depends on it.
#[derive(Clone, Default)]
struct GoField {
    omit_empty: bool,
    omit_zero: bool,
    pointer: bool,
    /// Printed Go type where it cannot be told from the type code (named scalars).
    named: Option<String>,
    values: Vec<String>,
}

impl GoField {
    fn facts(&self, ty: &str) -> Vec<String> {
        let mut facts = Vec::new();
        for (flag, fact) in [(self.omit_empty, "o"), (self.omit_zero, "z"), (self.pointer, "p")] {
            if flag {
                facts.push(fact.to_owned());
            }
        }
        let scalar = ty.trim_start_matches(['[', '{']);
        if let Some(named) = &self.named
            && !scalar.starts_with('@')
            && !matches!(scalar, "t" | "T" | "q" | "x" | "R" | "*")
        {
            facts.push(format!("G={named}"));
        }
        if !self.values.is_empty() {
            facts.push(format!("E={}", self.values.join("|")));
        }
        facts
    }
}

/// The Go packages of the API types, parsed line by line on first use.
struct GoSources<'a> {
    root: &'a Path,
    packages: BTreeMap<String, GoPackage>,
}

#[derive(Default, Clone)]
struct GoPackage {
    /// Struct name to its lines.
    structs: BTreeMap<String, Vec<String>>,
    /// Enum type to its values.
    enums: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> GoSources<'a> {
    fn new(root: &'a Path) -> Self {
        Self {
            root,
            packages: BTreeMap::new(),
        }
    }

    fn package(&mut self, dotted: &str) -> Result<GoPackage> {
        if let Some(p) = self.packages.get(dotted) {
            return Ok(p.clone());
        }
        let (module, rest) = match dotted.split_once('.') {
            Some(parts) => parts,
            None => (dotted, ""),
        };
        let dir = self
            .root
            .join("staging/src/k8s.io")
            .join(module)
            .join(rest.replace('.', "/"));
        let mut package = GoPackage::default();
        let mut files: Vec<_> = std::fs::read_dir(&dir)
            .with_context(|| format!("reading {}", dir.display()))?
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| {
                let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                name.ends_with(".go") && !name.ends_with("_test.go") && !name.contains("generated")
            })
            .collect();
        files.sort();
        for file in files {
            parse_go(&std::fs::read_to_string(file)?, &mut package);
        }
        self.packages.insert(dotted.to_owned(), package.clone());
        Ok(package)
    }

    /// JSON name to Go facts for the type of an OpenAPI definition.
    fn fields_of(&mut self, definition: &str) -> Result<BTreeMap<String, GoField>> {
        let (package, name) = short(definition).rsplit_once('.').unwrap_or(("", definition));
        self.struct_fields(package, name)
    }

    fn struct_fields(&mut self, dotted: &str, name: &str) -> Result<BTreeMap<String, GoField>> {
        let package = self.package(dotted)?;
        let mut fields = BTreeMap::new();
        for line in package.structs.get(name).into_iter().flatten() {
            let Some((declaration, tag)) = line.split_once('`') else {
                continue;
            };
            let Some(json) = tag.split_once("json:\"").and_then(|(_, t)| t.split('"').next()) else {
                continue;
            };
            let words: Vec<&str> = declaration.split_whitespace().collect();
            let mut options = json.split(',');
            let json_name = options.next().unwrap_or_default();
            let options: Vec<&str> = options.collect();
            let go_type = *words.last().unwrap_or(&"");
            if json_name.is_empty() && (options.contains(&"inline") || words.len() == 1) {
                let bare = go_type.trim_start_matches('*');
                let inlined = match bare.split_once('.') {
                    Some(("metav1", n)) => self.struct_fields("apimachinery.pkg.apis.meta.v1", n)?,
                    Some(("v1" | "corev1", n)) => self.struct_fields("api.core.v1", n)?,
                    Some(_) => bail!("cannot inline {go_type} into {dotted}.{name}"),
                    None => self.struct_fields(dotted, bare)?,
                };
                fields.extend(inlined);
                continue;
            }
            let bare = go_type
                .trim_start_matches('*')
                .rsplit([']', '*'])
                .next()
                .unwrap_or_default();
            let plain = matches!(bare, "string" | "int32" | "int64" | "bool" | "float64" | "byte");
            let printed = if bare.contains('.') {
                bare.replace("metav1.", "v1.").replace("corev1.", "v1.")
            } else {
                format!("{}.{bare}", dotted.rsplit('.').next().unwrap_or_default())
            };
            fields.insert(
                json_name.to_owned(),
                GoField {
                    omit_empty: options.contains(&"omitempty"),
                    omit_zero: options.contains(&"omitzero"),
                    pointer: go_type.starts_with('*'),
                    named: (!plain && !bare.is_empty()).then_some(printed),
                    values: self.enum_values(dotted, bare)?,
                },
            );
        }
        Ok(fields)
    }

    fn enum_values(&mut self, dotted: &str, bare: &str) -> Result<Vec<String>> {
        let (package, name) = match bare.split_once('.') {
            Some(("v1" | "corev1", n)) => (self.package("api.core.v1")?, n),
            Some(("metav1", n)) => (self.package("apimachinery.pkg.apis.meta.v1")?, n),
            Some(_) => return Ok(Vec::new()),
            None => (self.package(dotted)?, bare),
        };
        Ok(package.enums.get(name).into_iter().flatten().cloned().collect())
    }
}

/// Collects struct bodies and the values of types marked as enums.
fn parse_go(text: &str, package: &mut GoPackage) {
    let mut current: Option<String> = None;
    let mut marked = false;
    let mut constants: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = &current {
            if line.starts_with('}') {
                current = None;
            } else if !trimmed.starts_with("//") && !trimmed.is_empty() {
                package
                    .structs
                    .entry(name.clone())
                    .or_default()
                    .push(trimmed.to_owned());
            }
            continue;
        }
        if trimmed == "// +enum" {
            marked = true;
        } else if let Some(rest) = trimmed.strip_prefix("type ") {
            let words: Vec<&str> = rest.split_whitespace().collect();
            if words.get(1) == Some(&"struct") && line.ends_with('{') {
                current = Some(words[0].to_owned());
            } else if marked && words.get(1) == Some(&"string") {
                package.enums.entry(words[0].to_owned()).or_default();
            }
            marked = false;
        } else if let Some((left, right)) = trimmed.split_once(" = ") {
            let words: Vec<&str> = left.trim_start_matches("const ").split_whitespace().collect();
            let right = right.split("//").next().unwrap_or_default().trim();
            let (ty, literal) = match right.split_once('(') {
                Some((ty, inner)) if words.len() == 1 => (ty.trim(), inner.trim_end_matches(')')),
                _ => (words.get(1).copied().unwrap_or_default(), right),
            };
            if let Some(value) = literal.strip_prefix('"').and_then(|v| v.strip_suffix('"')) {
                constants.push((ty.to_owned(), value.to_owned()));
            }
        } else if !trimmed.starts_with("//") && !trimmed.is_empty() {
            marked = false;
        }
    }
    for (ty, value) in constants {
        if let Some(values) = package.enums.get_mut(&ty) {
            values.insert(value);
        }
    }
}
